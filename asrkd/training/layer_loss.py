"""A student that also learns from what a layer of the teacher gave (feature-based distillation)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from asrkd.errors import ConfigError, MismatchError
from asrkd.losses.features import codebook_cross_entropy, feature_cosine, feature_mse
from asrkd.losses.relations import attention_transfer, frame_similarity
from asrkd.models.layer import layer_frames, tapped
from asrkd.streaming.batch import Batch
from asrkd.streaming.source import Source
from asrkd.targets.layer_codec import LayerCodec
from asrkd.training.config import LayerLossConfig, TrainConfig

# Those that compare vectors, which need a linear layer to the teacher's width; and those that compare similarities, which do not.
VECTORS = ("mse", "cosine")
RELATIONS = ("similarity", "attention")
LOSSES = (*VECTORS, "codebooks", *RELATIONS)


class WithLayer(nn.Module):
    """A student, and a linear layer from one of its layers to what the teacher's is stored as.

    Attributes:
        student: as it is trained and kept.
        projection: to the teacher's width, or to the logits of all codebooks; None where similarities are compared.
    """

    def __init__(self, student: nn.Module, settings: LayerLossConfig, codec: LayerCodec, input_dim: int) -> None:
        """
        Raises:
            ConfigError: an unknown loss, one that does not go with how the layer is stored, or a layer that the student has not.
        """
        super().__init__()
        if settings.loss not in LOSSES:
            raise ConfigError(f"layer_loss.loss is {settings.loss!r}, but must be one of {', '.join(LOSSES)}")
        if (settings.loss == "codebooks") != (codec.kind == "codebooks"):
            raise ConfigError(
                f"layer_loss.loss is {settings.loss!r}, but the store's layer is {codec.spec!r}; codebooks go with the loss 'codebooks', numbers with the others"
            )
        self.student, self.settings, self.codec = student, settings, codec
        width = self._width(input_dim)
        outputs = codec.width * max(codec.entries, 1)
        self.projection = None if settings.loss in RELATIONS else nn.Linear(width, outputs)
        self._frames: Tensor | None = None

    @torch.no_grad()
    def _width(self, input_dim: int) -> int:
        """Dimensions of the student's layer."""
        training, state = self.student.training, torch.random.get_rng_state()
        device = next(self.student.parameters()).device
        with tapped(self.student.eval(), self.settings.layer) as outputs:
            logits, _ = self.student(torch.zeros(2, 13, input_dim, device=device), torch.tensor([13, 8], device=device))
        self.student.train(training)
        torch.random.set_rng_state(state)
        return layer_frames(outputs[-1], 2, logits.shape[1], name=self.settings.layer).shape[2]

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The student's logits and lengths; its layer is kept for `loss`."""
        with tapped(self.student, self.settings.layer) as outputs:
            logits, lengths = self.student(features, feature_lengths)
        self._frames = layer_frames(outputs[-1], len(features), logits.shape[1], name=self.settings.layer)
        return logits, lengths

    def loss(self, lengths: Tensor, batch: Batch) -> Tensor:
        """The loss per frame of the batch that `forward` saw last; 0 for one without the teacher's layer.

        Args:
            lengths: (N,) frames of the student's logits.

        Raises:
            MismatchError: the teacher's frames are others.
        """
        if self._frames is None:
            raise MismatchError("the loss of a layer is asked for before the forward pass")
        if batch.layer is None:
            # Processes that exchange gradients wait for every weight's.
            parts = [] if self.projection is None else [0.0 * weight.sum() for weight in self.projection.parameters()]
            return sum(parts, start=self._frames.new_zeros(()))
        if batch.layer.shape[:2] != self._frames.shape[:2]:
            raise MismatchError(
                f"the student's layer has (utterances, frames) {tuple(self._frames.shape[:2])}, the teacher's {tuple(batch.layer.shape[:2])}; "
                "they are of another frame rate"
            )
        mask = torch.arange(self._frames.shape[1], device=lengths.device)[None] < lengths[:, None]
        count = mask.sum().clamp(min=1)
        if self.projection is None:
            compare = frame_similarity if self.settings.loss == "similarity" else attention_transfer
            total = compare(self._frames, batch.layer, lengths)
            # A similarity is counted by frames, a map of activity by utterances.
            return total / (count if self.settings.loss == "similarity" else len(batch))
        student, teacher = self.projection(self._frames[mask]), batch.layer[mask]
        if self.settings.loss == "codebooks":
            return codebook_cross_entropy(student.view(len(student), self.codec.width, -1), teacher) / count
        return (feature_mse if self.settings.loss == "mse" else feature_cosine)(student, teacher) / count


def with_layer(
    model: nn.Module, config: TrainConfig, sources: Mapping[str, Source], input_dim: int
) -> WithLayer | None:
    """The model as it learns from the teacher's layer; None where the config wants none.

    Raises:
        ConfigError: what does not go together: no source with a layer, sources with other layers, or a model that is trained in chunks or with peers.
    """
    settings = config.layer_loss
    if not settings.layer:
        return None
    if config.mutual.students > 1 or any(phase.chunk_frames for phase in config.schedule):
        raise ConfigError(
            f"layer_loss.layer is {settings.layer!r}, but mutual.students or chunk_frames is set, too; the layer of one model over whole "
            "utterances is compared, so leave one of them out"
        )
    soft = (source.store.identity for name, source in sources.items() if config.sources[name].kind == "soft")
    codecs = {identity.layer_codec for identity in soft if identity.layer_codec}
    if len(codecs) != 1:
        raise ConfigError(
            f"layer_loss.layer is {settings.layer!r}, but the soft sources have {len(codecs)} kinds of layers ({', '.join(sorted(codec.spec for codec in codecs)) or 'none'}); "
            "give one kind"
        )
    device = next(model.parameters()).device
    return WithLayer(model, settings, codecs.pop(), input_dim).to(device)
