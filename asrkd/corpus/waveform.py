"""Samples as the input of a model that has its own front end (Wav2Vec2, HuBERT, Parakeet)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asrkd import fingerprint
from asrkd.config import check, section, setting
from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.front_end import FrontEnd, check_samples

KIND = "waveform"
_LATER: dict[str, Any] = {"begin": 0, "needed": None}


@dataclass(frozen=True)
class Waveform:
    """A front end that leaves the samples as they are; its frame law is that of the model, all in all.

    Convolutions without padding, of kernels k_i and strides s_i, see windows of 1 + sum_i (k_i - 1) prod_{j<i} s_j samples every
    prod_i s_i samples (Wav2Vec2: 400 and 320, 25 and 20 ms).
    """

    sampling_rate: int = setting(at_least=1)
    """Hertz."""
    window: int = setting(400, at_least=1)
    """Samples of a window."""
    shift: int = setting(320, at_least=1)
    """Samples from one window to the next."""
    normalize: bool = False
    """Subtract the utterance's mean and divide by its deviation, as models of the `large` Wav2Vec2 kind want."""
    begin: int = 0
    """First sample of the first window, below 0 where it reaches over the edge of the signal (`FrameLaw`), in models that pad."""
    needed: int | None = None
    """Fewest samples that make a window; null for the window itself."""

    def __post_init__(self) -> None:
        check(self, "front_end")

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


def longest_seconds(front_end: AnyFrontEnd, max_features: int | None) -> float:
    """Of the audio that makes at most `max_features` frames of features; None for any number."""
    if max_features is None:
        return math.inf
    return front_end.frame_law().lengths_of(max_features)[1] / front_end.sampling_rate


def law_of_convolutions(kernels: list[int], strides: list[int]) -> tuple[int, int]:
    """Window and shift in samples of a stack of convolutions without padding."""
    window, shift = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        window, shift = window + (kernel - 1) * shift, shift * stride
    return window, shift


def front_end_from_dict(values: Mapping[str, Any]) -> AnyFrontEnd:
    """The inverse of `to_dict` of either front end.

    Raises:
        ConfigError: an unknown key, or a value that cannot be used.
    """
    if values.get("kind") != KIND:
        return FrontEnd.from_dict(values)
    return section(Waveform, {name: value for name, value in values.items() if name != "kind"}, "front_end")
