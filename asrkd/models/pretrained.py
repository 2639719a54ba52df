"""A pretrained encoder of `transformers` with a new head: what a team has, made an acoustic model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.waveform import AnyFrontEnd, Waveform
from asrkd.errors import ConfigError, MismatchError
from asrkd.models.pretrained_encoder import LoadedEncoder, built_encoder, loaded_encoder, with_lora
from asrkd.models.whisper_encoder import SUBSAMPLING, whisper_hidden

# Largest difference, for each unit of the largest output, that a batch's padding may make before utterances are run one at a time.
_TOLERANCE = 1e-4
_NEVER_TRAINED = ("masked_spec_embed", "embed_positions.weight")


class Pretrained(nn.Module):
    """An encoder of `transformers` and a linear head, (N, T, input_dim) -> (N, T', num_classes).

    Encoders: those that read samples by convolutions (Wav2Vec2, HuBERT, WavLM, UniSpeech, Data2Vec, ...; front end `{kind: waveform}`), a frame every 20 ms
    mostly; and Whisper's (front end `{preset: whisper}`, `subsampling_factor: 2`), which here reads utterances of any length up to its positions.
    Padding does not reach the output: encoders in whose batches it would (measured when a training begins) get one utterance at a time.

    Masks of time and features (SpecAugment) are the encoder's own, by its settings (`mask_time_prob`, ...), drawn by torch's generator; Whisper's encoder has
    none. The convolutions that read samples are never trained (Baevski et al. 2020, section 4.3), and layers are not left out at random.

    Attributes:
        checkpoint_args: what builds this network again without the folder that its weights came from.
        max_features: frames of features that it takes at most; None for any number.

    Args:
        name: a folder that `save_pretrained` wrote, or a name on the hub.
        layers: of the encoder, from the input on; None keeps all.
        settings: of the encoder's config that differ from its own, such as `{attention_dropout: 0.1, mask_time_prob: 0.05}` (`EncoderSettings`).
        dropout: of what the head reads.
        lora: settings of `peft.LoraConfig`, such as `{r: 8, target_modules: [q_proj, v_proj]}`; only these adapters and the head are trained.
        config, samples, alone: of a checkpoint, in place of `name`.

    Raises:
        ModelError: no such encoder.
        ConfigError: an argument that does not fit it.
        DependencyError: transformers or peft is not installed.
    """

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        name: str = "",
        layers: int | None = None,
        settings: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
        lora: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        samples: Mapping[str, Any] | None = None,
        alone: bool | None = None,
    ) -> None:
        super().__init__()
        if bool(name) == bool(config) or not isinstance(name, str):
            raise ConfigError(
                f"model.args.name: is {name!r}; give the folder of an encoder that transformers saved, or its name on the hub"
            )
        if config:
            loaded = built_encoder(config, samples or {})
        else:
            loaded = loaded_encoder(name, layers=layers, settings=settings or {})
        self._loaded: LoadedEncoder = loaded
        if input_dim != loaded.front_end.feature_dim:
            raise ConfigError(
                f"front_end: {loaded.kind} reads {loaded.wants}, but the front end gives {input_dim} values a frame; set "
                f"front_end: {loaded.front_end_line}"
            )
        self.max_features = loaded.max_features
        self.encoder: Any = loaded.module
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(loaded.hidden_dim, num_classes)
        if lora is not None:
            with_lora(self.encoder, lora)
        for parameter_name, parameter in self.encoder.named_parameters():
            # Convolutions of samples; the vector in place of masked frames, which not every batch has; Whisper's positions, which are sines.
            if "feature_extractor." in parameter_name or parameter_name.endswith(_NEVER_TRAINED):
                parameter.requires_grad_(False)
        # Whisper's encoder is run here with masks of its own.
        of_samples = isinstance(loaded.front_end, Waveform)
        self._alone = of_samples and self._depends_on_padding() if alone is None else alone
        self.checkpoint_args: dict[str, Any] = {
            "config": loaded.config,
            "dropout": dropout,
            "lora": None if lora is None else dict(lora),
            "alone": self._alone,
        }
        if of_samples:
            self.checkpoint_args["samples"] = dict(vars(loaded.front_end))

    def parameter_depths(self) -> dict[str, int]:
        """By the name of each parameter of the encoder, how many of its layers are above it: 0 for those of the last layer; what is before the first layer has
        them all above it."""
        last, depths = self._loaded.num_layers, {}
        for name, _ in self.encoder.named_parameters():
            parts = name.removeprefix("encoder.").split(".")  # transformers' own `encoder` within
            if parts[0] == "layers" and parts[1].isdigit():
                depth = last - 1 - int(parts[1])
            else:
                # The norm after the last layer belongs to it.
                depth = 0 if parts[0] == "layer_norm" and self._loaded.norm_last else last
            depths[f"encoder.{name}"] = depth
        return depths

    def check_front_end(self, front_end: AnyFrontEnd) -> None:
        """Raise `MismatchError` for a front end that makes other features than the encoder was trained with."""
        wanted, line = self._loaded.front_end, self._loaded.front_end_line
        there, here = wanted.to_dict(), front_end.to_dict()
        if type(front_end) is type(wanted):
            # All keys: `to_dict` leaves some out at their defaults.
            there, here = vars(wanted), vars(front_end)
        for key, value in there.items():
            if here.get(key) != value:
                raise MismatchError(
                    f"front_end.{key} is {here.get(key)!r}, but {self._loaded.kind} was trained on {key} {value!r}, and on other features its weights are "
                    f"worth nothing; set front_end: {line}"
                )

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (N, T', V), (N,).

        Raises:
            ValueError: an utterance of more than `max_features` frames.
        """
        if self._alone and len(features) > 1:
            rows = [
                self._hidden(features[n : n + 1, :length], feature_lengths[n : n + 1])
                for n, length in enumerate(feature_lengths.tolist())
            ]
            hidden = pad_sequence([row[0] for row, _ in rows], batch_first=True)
            lengths = torch.cat([one for _, one in rows])
        else:
            hidden, lengths = self._hidden(features, feature_lengths)
        return self.output(self.dropout(hidden)), lengths

    def _hidden(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T', D) of the encoder, (N,)."""
        front_end = self._loaded.front_end
        if isinstance(front_end, FrontEnd):
            return whisper_hidden(self.encoder, features, lengths), -(-lengths // SUBSAMPLING)
        law = front_end.frame_law()
        frames = torch.tensor([law.num_frames(length) for length in lengths.tolist()], device=lengths.device)
        # Fewer samples than a window make no frame, but the convolutions need one.
        short = law.window - features.shape[1]
        samples = nn.functional.pad(features[..., 0], (0, short)) if short > 0 else features[..., 0]
        mask = torch.arange(samples.shape[1], device=samples.device) < lengths[:, None].clamp_min(law.window)
        with _numpy_seeded(self.encoder, law.num_frames(samples.shape[1]), self.training):
            hidden = self.encoder(samples.masked_fill(~mask, 0.0), attention_mask=mask.long()).last_hidden_state
        return hidden[:, : int(frames.max()) if short > 0 else hidden.shape[1]], frames

    @torch.no_grad()
    def _depends_on_padding(self) -> bool:
        """Whether a batch gives an utterance of noise another output than the utterance by itself."""
        training = {module: module.training for module in self.modules()}
        self.eval()
        front_end = self._loaded.front_end
        law = front_end.frame_law()
        least = law.lengths_of(12)[0]
        sizes = [*range(least, least + 4 * law.frame_shift, law.frame_shift), least + 40 * law.frame_shift]
        generator = torch.Generator().manual_seed(0)
        features = [front_end(0.1 * torch.randn(size, generator=generator)) for size in sizes]
        lengths = torch.tensor([len(one) for one in features])
        try:
            together, _ = self._hidden(pad_sequence(features, batch_first=True), lengths)
            for row, one in zip(together, features, strict=True):
                single = self._hidden(one[None], torch.tensor([len(one)]))[0][0]
                gap = (row[: len(single)] - single).abs().max()
                if not bool(gap <= _TOLERANCE * single.abs().max().clamp_min(1.0)):
                    return True
        finally:
            for module, mode in training.items():
                module.training = mode
        return False


class _numpy_seeded:
    """Inside, NumPy's generator, by which transformers draws masks, follows torch's; so a run that resumes draws the same.

    Batches shorter than a mask, which transformers refuses, are not masked.
    """

    def __init__(self, encoder: Any, num_frames: int, training: bool) -> None:
        config = encoder.config
        self._config, self._drawn = config, training
        self._masks = getattr(config, "apply_spec_augment", True)
        self._off = training and num_frames < getattr(config, "mask_time_length", 0)

    def __enter__(self) -> None:
        if self._drawn:
            self._state = np.random.get_state()
            np.random.seed(int(torch.randint(2**31, ())))
        if self._off:
            self._config.apply_spec_augment = False

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            np.random.set_state(self._state)
        if self._off:
            self._config.apply_spec_augment = self._masks
