"""Augmentation of features: masks, other vocal tracts, and warped time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd import fingerprint
from asrkd.corpus.augment.checks import check_probability
from asrkd.errors import ConfigError


@dataclass(frozen=True)
class SpecAugment:
    """Time and frequency masks on features (Park et al. 2019, https://arxiv.org/abs/1904.08779; no time warping).

    A mask has a width drawn uniformly from 0 to the largest, and holds the mean over time of each bin.

    Attributes:
        time_masks, max_time: number of masks over frames, and their largest width in frames.
        max_time_fraction: no time mask is wider than this share of the utterance, 0..1.
        frequency_masks, max_frequency: number of masks over mel bins, and their largest width in bins.
        probability: of masking an utterance at all, 0..1.
    """

    time_masks: int = 2
    max_time: int = 20
    max_time_fraction: float = 0.15
    frequency_masks: int = 2
    max_frequency: int = 12
    probability: float = 0.9

    def __post_init__(self) -> None:
        check_probability("SpecAugment", self.probability)
        check_probability("SpecAugment's max_time_fraction", self.max_time_fraction)
        for name in ("time_masks", "max_time", "frequency_masks", "max_frequency"):
            if getattr(self, name) < 0:
                raise ConfigError(f"SpecAugment: {name} is {getattr(self, name)}, but must not be negative")

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json(["spec_augment", {name: value for name, value in vars(self).items()}])

    def __call__(self, features: Tensor, rng: np.random.Generator, *, stack: int = 1) -> Tensor:
        """Masked features.

        Args:
            features: (T, F), F = `stack` joined frames of F / `stack` mel bins; left as it is.
            rng: draws the masks.
            stack: joined frames; a frequency mask covers the same mel bins in each of them.

        Returns:
            (T, F), of the same type.
        """
        if rng.random() >= self.probability or features.numel() == 0:
            return features
        frames, width = features.shape
        bins = width // stack
        mask = torch.zeros(frames, stack, bins, dtype=torch.bool)
        for _ in range(self.time_masks):
            start, end = _span(frames, min(self.max_time, int(self.max_time_fraction * frames)), rng)
            mask[start:end] = True
        for _ in range(self.frequency_masks):
            start, end = _span(bins, min(self.max_frequency, bins), rng)
            mask[:, :, start:end] = True
        mask = mask.view(frames, width).to(features.device)
        return torch.where(mask, features.mean(dim=0, keepdim=True), features)


@dataclass(frozen=True)
class FrequencyWarp:
    """Other vocal tracts: stretches the frequency axis of log-mel features by a random factor.

    Vocal tract length perturbation (Jaitly & Hinton 2013): f becomes a f up to an edge, and above it what maps the Nyquist frequency
    to itself; the features are interpolated between mel bins. The edge is 0.6 of the Nyquist frequency, as in the paper.

    Attributes:
        largest: the factor a is drawn uniformly from 1 - largest to 1 + largest; in the paper 0.1.
        band: edges of the filterbank in hertz.
        nyquist: hertz.
    """

    largest: float
    band: tuple[float, float]
    nyquist: float

    def __post_init__(self) -> None:
        if not 0 < self.largest < 0.5:
            raise ConfigError(f"frequency_warp is {self.largest}, but must be above 0 and below 0.5")

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json(["frequency_warp", self.largest, list(self.band), self.nyquist])

    def __call__(self, features: Tensor, rng: np.random.Generator, *, stack: int = 1) -> Tensor:
        """(T, F) -> (T, F); F = `stack` joined frames of F / `stack` mel bins."""
        factor = 1.0 + float(rng.uniform(-self.largest, self.largest))
        frames, width = features.shape
        places = torch.from_numpy(self.places(width // stack, factor)).to(features.device)
        below = places.long().clamp(max=max(width // stack - 2, 0))
        share = (places - below).to(features.dtype)
        bins = features.view(frames, stack, width // stack)
        above = (below + 1).clamp(max=width // stack - 1)
        return torch.lerp(bins[..., below], bins[..., above], share).reshape(frames, width)

    def places(self, bins: int, factor: float) -> NDArray[np.float64]:
        """(bins,) the place, in bins, from which each bin's value comes."""
        low, high = (_mel(edge) for edge in self.band)
        step = (high - low) / (bins + 1)
        hertz = 700.0 * np.expm1((low + step * np.arange(1, bins + 1)) / 1127.0)
        edge = 0.6 * self.nyquist * min(factor, 1.0)
        rest = (self.nyquist - edge) / (self.nyquist - edge / factor)
        warped = np.where(hertz <= edge / factor, factor * hertz, self.nyquist - rest * (self.nyquist - hertz))
        return np.clip((_mel(warped) - low) / step - 1.0, 0.0, bins - 1.0)


def _mel(hertz: Any) -> Any:
    """Kaldi's mel scale."""
    return 1127.0 * np.log1p(hertz / 700.0)


@dataclass(frozen=True)
class TimeWarp:
    """Moves a random frame of an utterance to a random place, and stretches what is before and behind it.

    SpecAugment's time warp (Park et al. 2019, section 2), piecewise linear. The number of frames stays. As speech moves, targets and hard labels
    must move with it: `draw` gives the map for both.

    Attributes:
        max_frames: the frame moves by up to this many, as drawn uniformly.
        probability: of an utterance, 0..1.
    """

    max_frames: int = 20
    probability: float = 0.9

    def __post_init__(self) -> None:
        check_probability("time warping", self.probability)
        if self.max_frames < 1:
            raise ConfigError(f"time_warp is {self.max_frames} frames, but must be at least 1")

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json(["time_warp", self.max_frames, self.probability])

    def draw(self, frames: int, rng: np.random.Generator) -> NDArray[np.float64] | None:
        """(frames,) the place, in frames, from which each warped frame comes; ascending from 0 to frames - 1. None: no warping."""
        if rng.random() >= self.probability or frames < 4:
            return None
        center = int(rng.integers(1, frames - 1))
        moved = int(np.clip(center + rng.integers(-self.max_frames, self.max_frames + 1), 1, frames - 2))
        return np.interp(np.arange(frames), [0, moved, frames - 1], [0, center, frames - 1])

    def features(self, features: Tensor, places: NDArray[np.float64]) -> Tensor:
        """(T, F) -> (T, F), interpolated between neighboring frames."""
        at = torch.from_numpy(places).to(features.device, features.dtype)
        below = at.long().clamp(max=max(len(features) - 2, 0))
        return torch.lerp(features[below], features[below + 1], (at - below)[:, None])

    def frames(self, places: NDArray[np.float64], subsampling_factor: int, num_frames: int) -> NDArray[np.int64]:
        """(num_frames,) for each output frame, the one whose targets are now its."""
        # The output frame in whose group of input frames the nearest one lies.
        taken = places[np.arange(num_frames) * subsampling_factor]
        return np.rint(taken).astype(np.int64) // subsampling_factor


def _span(length: int, widest: int, rng: np.random.Generator) -> tuple[int, int]:
    width = int(rng.integers(widest + 1))
    start = int(rng.integers(length - width + 1))
    return start, start + width
