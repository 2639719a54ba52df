"""Samples as the input of a model that has its own front end (Wav2Vec2, HuBERT, Parakeet)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asrkd import fingerprint
from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.front_end import FrontEnd, check_samples
from asrkd.errors import ConfigError

KIND = "waveform"
_LATER: dict[str, Any] = {"begin": 0, "needed": None}


@dataclass(frozen=True)
class Waveform:
    """A front end that leaves the samples as they are; its frame law is that of the model, all in all.

    Convolutions without padding, of kernels k_i and strides s_i, see windows of 1 + sum_i (k_i - 1) prod_{j<i} s_j samples every
    prod_i s_i samples (Wav2Vec2: 400 and 320, 25 and 20 ms).

    Attributes:
        sampling_rate: hertz.
        window, shift: samples.
        normalize: subtract the utterance's mean and divide by its deviation, as models of the `large` Wav2Vec2 kind want.
        begin, needed: of the first window, where it reaches over the edge of the signal (`FrameLaw`); models that pad have these.
    """

    sampling_rate: int
    window: int = 400
    shift: int = 320
    normalize: bool = False
    begin: int = 0
    needed: int | None = None

    def __post_init__(self) -> None:
        for name in ("sampling_rate", "window", "shift"):
            if getattr(self, name) < 1:
                raise ConfigError(f"waveform: {name} is {getattr(self, name)}, but must be at least 1")

    @property
    def feature_dim(self) -> int:
        return 1

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, as written into a store's manifest."""
        # Later than the first stores: left out at their defaults, so that front ends keep their fingerprint.
        values = {name: value for name, value in asdict(self).items() if value != _LATER.get(name, ...)}
        return {"kind": KIND} | values

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json(self.to_dict())

    def frame_law(self, subsampling_factor: int = 1) -> FrameLaw:
        """The frame law of the model, before a further subsampling."""
        return FrameLaw(
            self.window, self.shift, subsampling_factor=subsampling_factor, begin=self.begin, needed=self.needed
        )

    def __call__(self, samples: Tensor) -> Tensor:
        """(num_samples,) float in -1..1 at `sampling_rate` -> (num_samples, 1) float32.

        Raises:
            CorpusError: the samples are not finite or not one channel.
        """
        check_samples(samples)
        samples = samples.to(torch.float32)
        if self.normalize and len(samples):
            # As transformers' Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm, to the last digit: a norm over quiet convolutions makes much of it.
            values = samples.cpu().numpy()
            values = (values - values.mean()) / np.sqrt(values.var() + 1e-7)
            samples = torch.from_numpy(values).to(samples)
        return samples[:, None]


AnyFrontEnd = FrontEnd | Waveform


def law_of_convolutions(kernels: list[int], strides: list[int]) -> tuple[int, int]:
    """Window and shift in samples of a stack of convolutions without padding."""
    window, shift = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        window, shift = window + (kernel - 1) * shift, shift * stride
    return window, shift


def front_end_from_dict(values: Mapping[str, Any]) -> AnyFrontEnd:
    """The inverse of `to_dict` of either front end.

    Raises:
        ConfigError: unknown settings.
    """
    if values.get("kind") != KIND:
        return FrontEnd.from_dict(values)
    try:
        return Waveform(**{name: value for name, value in values.items() if name != "kind"})
    except TypeError as error:
        raise ConfigError(f"front end {dict(values)!r} cannot be used: {error}") from None
