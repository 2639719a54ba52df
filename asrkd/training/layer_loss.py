"""A student that also learns from what a layer of the teacher gave (feature-based distillation)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from asrkd.config import check, setting
from asrkd.errors import ConfigError, MismatchError
from asrkd.losses.features import codebook_cross_entropy, feature_cosine, feature_mse
from asrkd.losses.relations import attention_transfer, frame_similarity
from asrkd.store.reader import Store
from asrkd.streaming.batch import Batch
from asrkd.targets.layer_codec import HiddenCodec
from asrkd.targets.streams import HIDDEN
from asrkd.targets.vectors import FrameVectors
from asrkd.training.student import Losses, Objective, Student, StudentOutput, run_model

# Losses of layers that compare vectors, and those that compare similarities between frames.
VECTORS, RELATIONS = ("mse", "cosine"), ("similarity", "attention")


@dataclass
class LayerLossConfig:
    """The loss on a layer of the teacher, on soft sources labeled with `--layer` (`asrkd.training.layer_loss`)."""

    layer: str = ""
    """Module of the student that is compared with the teacher's layer; an empty name disables the loss."""
    loss: str = setting("mse", one_of=(*VECTORS, "codebooks", *RELATIONS))
    """`mse` or `cosine` (through a linear layer to the teacher's width), `similarity` or `attention` (between frames), or `codebooks` (for stored indexes)."""
    weight: float = setting(1.0, at_least=0)
    """Factor of this loss."""

    def __post_init__(self) -> None:
        check(self, "layer_loss")


class LayerObjective(nn.Module):
    """How unlike the teacher's layer a student's is, per frame, as `NAME_layer`; 0 for a batch without the teacher's.

    Attributes:
        layers: the student's that is compared.
        projection: linear, to the teacher's width, or to the logits of all codebooks; None where similarities are compared.
    """

    def __init__(self, settings: LayerLossConfig, codec: HiddenCodec, width: int) -> None:
        """
        Args:
            width: dimensions of the student's layer.

        Raises:
            ConfigError: a loss that does not go with how the layer is stored.
        """
        super().__init__()
        if (settings.loss == "codebooks") != bool(codec.entries):
            raise ConfigError(
                f"layer_loss.loss: is {settings.loss!r}, but the store's layer is {codec.spec!r}; codebooks go with the loss 'codebooks', numbers with the others"
            )
        self.settings, self.codec, self.layers = settings, codec, (settings.layer,)
        outputs = codec.width * max(codec.entries, 1)
        self.projection = None if settings.loss in RELATIONS else nn.Linear(width, outputs)

    def forward(self, student: Student, batch: Batch) -> Losses:
        """
        Raises:
            MismatchError: the teacher's frames are others.
        """
        frames = student.output.layers[self.settings.layer]
        hidden = cast(FrameVectors | None, batch.streams.get(HIDDEN))
        if hidden is None or not bool(batch.has[HIDDEN].all()):
            return sum((0.0 * weight.sum() for weight in self.parameters()), start=frames.new_zeros(())), {}
        layer = hidden.padded()
        if layer.shape[:2] != frames.shape[:2]:
            raise MismatchError(
                f"the student's layer has (utterances, frames) {tuple(frames.shape[:2])}, the teacher's {tuple(layer.shape[:2])}; "
                "they are of another frame rate"
            )
        loss = self._compare(frames, layer, student.output)
        return loss, {f"{batch.source[0]}_layer": float(loss.detach())}

    def _compare(self, frames: Tensor, layer: Tensor, output: StudentOutput) -> Tensor:
        mask = output.mask
        count = mask.sum().clamp(min=1)
        if self.projection is None:
            compare = frame_similarity if self.settings.loss == "similarity" else attention_transfer
            total = compare(frames, layer, output.lengths)
            # A similarity is counted by frames, a map of activity by utterances.
            return total / (count if self.settings.loss == "similarity" else len(frames))
        student, teacher = self.projection(frames[mask]), layer[mask]
        if self.settings.loss == "codebooks":
            return codebook_cross_entropy(student.view(len(student), self.codec.width, -1), teacher) / count
        return (feature_mse if self.settings.loss == "mse" else feature_cosine)(student, teacher) / count


@torch.no_grad()
def layer_width(model: nn.Module, layer: str, input_dim: int) -> int:
    """Dimensions of a layer.

    Raises:
        ConfigError: the model has no such layer.
    """
    training, state = model.training, torch.random.get_rng_state()
    device = next(model.parameters()).device
    features, lengths = torch.zeros(2, 13, input_dim, device=device), torch.tensor([13, 8], device=device)
    output = run_model(model.eval(), features, lengths, layers=[layer])
    model.train(training)
    torch.random.set_rng_state(state)
    return output.layers[layer].shape[2]


def layer_terms(
    model: nn.Module, settings: LayerLossConfig, soft_stores: Iterable[Store], input_dim: int
) -> list[tuple[float, Objective]]:
    """The weighted objective on the teacher's layer; none where the config wants none.

    Raises:
        ConfigError: what does not go together: no source with a layer, or sources with other layers.
    """
    if not settings.layer:
        return []
    codecs = {
        cast(HiddenCodec, store.identity.streams[HIDDEN]) for store in soft_stores if HIDDEN in store.identity.streams
    }
    if len(codecs) != 1:
        raise ConfigError(
            f"layer_loss.layer: is {settings.layer!r}, but the soft sources have {len(codecs)} kinds of layers ({', '.join(sorted(codec.spec for codec in codecs)) or 'none'}); "
            "give one kind"
        )
    width = layer_width(model, settings.layer, input_dim)
    return [(settings.weight, LayerObjective(settings, codecs.pop(), width))]
