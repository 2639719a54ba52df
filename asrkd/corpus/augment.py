"""Augmentation that is a pure function of (seed, pass over the data, utterance id).

Every transform draws from the `np.random.Generator` that it is given and from nothing else, and keeps the number of
samples or frames, so that soft targets and alignments still fit. (For that reason there is no speed perturbation and
no time warping: both move frames against the targets. lhotse's SpecAugment draws from the interpreter's global
generators, which a background thread cannot share reproducibly.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

from asrkd import fingerprint
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError, CorpusError

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3")


class SampleTransform(Protocol):
    """What a loader applies to samples: (num_samples,) float32 -> the same number of samples."""

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]: ...


class FeatureTransform(Protocol):
    """What a loader applies to features: (T, F) of `stack` joined frames -> the same shape."""

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, features: Tensor, rng: np.random.Generator, *, stack: int = 1) -> Tensor: ...


def utterance_rng(seed: int, epoch: int, utterance_id: str) -> np.random.Generator:
    """The generator of one utterance in one pass over the data, whatever rank or worker augments it."""
    digest = hashlib.sha256(utterance_id.encode()).digest()[:16]
    return np.random.default_rng([seed, epoch, *np.frombuffer(digest, dtype="<u4").tolist()])


@dataclass(frozen=True, eq=False)
class NoiseAugment:
    """Adds a random stretch of a random noise, at a random signal-to-noise ratio.

    Attributes:
        noise: arrays (num_samples,) float32 at the sampling rate of the speech; a short one is repeated.
        snr: lowest and highest signal-to-noise ratio in dB, drawn uniformly; over the whole utterance
            (`torchaudio.functional.add_noise`).
        probability: of adding noise to an utterance, 0..1.
    """

    noise: Sequence[NDArray[np.float32]]
    snr: tuple[float, float] = (5.0, 20.0)
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_range("snr", self.snr)
        _check_probability("noise augmentation", self.probability)
        if not self.noise or any(len(noise) == 0 for noise in self.noise):
            raise ConfigError("noise augmentation needs at least one noise, and none may be empty")

    @property
    def fingerprint(self) -> str:
        sounds = [fingerprint.of_bytes(np.asarray(noise, dtype=np.float32).tobytes()) for noise in self.noise]
        return fingerprint.of_json(["noise", sounds, list(self.snr), self.probability])

    def __call__(self, samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """(num_samples,) float32 -> (num_samples,) float32. Silent speech or a silent stretch of noise adds nothing."""
        if rng.random() >= self.probability:
            return samples
        noise = self.noise[int(rng.integers(len(self.noise)))]
        # One that is long enough gives a stretch without a seam; a shorter one is repeated from a random start.
        spare = len(noise) - len(samples)
        start = int(rng.integers(spare + 1 if spare >= 0 else len(noise)))
        if spare >= 0:
            stretch = noise[start : start + len(samples)]
        else:
            stretch = np.resize(np.roll(noise, -start), len(samples))
        snr = float(rng.uniform(*self.snr))
        if not np.any(samples) or not np.any(stretch):
            return samples
        noisy = torchaudio.functional.add_noise(
            torch.tensor(samples, dtype=torch.float32), torch.tensor(stretch, dtype=torch.float32), torch.tensor(snr)
        )
        return noisy.numpy()


@dataclass(frozen=True)
class Gain:
    """Multiplies an utterance by a gain drawn uniformly in dB, with a probability in 0..1."""

    decibels: tuple[float, float] = (-6.0, 6.0)
    probability: float = 1.0

    def __post_init__(self) -> None:
        _check_range("gain", self.decibels)
        _check_probability("gain augmentation", self.probability)

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json(["gain", list(self.decibels), self.probability])

    def __call__(self, samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """(num_samples,) float32 -> (num_samples,) float32."""
        if rng.random() >= self.probability:
            return samples
        return (samples * np.float32(10.0 ** (rng.uniform(*self.decibels) / 20.0))).astype(np.float32)


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
        _check_probability("SpecAugment", self.probability)
        _check_probability("SpecAugment's max_time_fraction", self.max_time_fraction)
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
        return torch.where(mask.view(frames, width), features.mean(dim=0, keepdim=True), features)


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
        places = torch.from_numpy(self.places(width // stack, factor))
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
class Augment:
    """All augmentation of a run: transforms of samples, then of features, applied in order."""

    samples: tuple[SampleTransform, ...] = ()
    features: tuple[FeatureTransform, ...] = ()

    @classmethod
    def from_settings(
        cls,
        front_end: FrontEnd,
        *,
        noise: Sequence[str] = (),
        noise_probability: float = 0.0,
        snr: Sequence[float] = (0.0, 20.0),
        gain_db: float = 0.0,
        time_masks: int = 0,
        time_mask_frames: int = 5,
        frequency_masks: int = 0,
        frequency_mask_bins: int = 8,
        frequency_warp: float = 0.0,
    ) -> Augment:
        """From plain values; what has probability, range or number 0 is left out.

        Args:
            front_end: makes the features.
            noise: files and folders of noise.
            noise_probability, snr: see `NoiseAugment`.
            gain_db: gains are drawn from -gain_db to gain_db.
            time_masks, time_mask_frames, frequency_masks, frequency_mask_bins: see `SpecAugment`.
            frequency_warp: see `FrequencyWarp`, `largest`.

        Raises:
            ConfigError, CorpusError: a value or a noise that cannot be used.
        """
        samples: list[SampleTransform] = []
        if noise_probability and not noise:
            raise ConfigError(f"noise_probability is {noise_probability}, but no noise is named; name files or folders")
        if noise_probability:
            sounds = [sound for place in noise for sound in load_noises(place, front_end.sampling_rate)]
            if len(snr) != 2:
                raise ConfigError(f"snr is {list(snr)!r}, but must be a lowest and a highest value in dB")
            samples.append(NoiseAugment(sounds, (snr[0], snr[1]), noise_probability))
        if gain_db:
            samples.append(Gain((-gain_db, gain_db)))
        features: list[FeatureTransform] = []
        if frequency_warp:
            features.append(FrequencyWarp(frequency_warp, front_end.band, front_end.sampling_rate / 2))
        if time_masks or frequency_masks:
            masks = SpecAugment(
                time_masks=time_masks,
                max_time=time_mask_frames,
                frequency_masks=frequency_masks,
                max_frequency=frequency_mask_bins,
                probability=1.0,
            )
            features.append(masks)
        return cls(tuple(samples), tuple(features))

    @property
    def fingerprint(self) -> str:
        parts = [*(one.fingerprint for one in self.features), *(one.fingerprint for one in self.samples)]
        return fingerprint.of_json(parts)


def load_noises(source: str | Path | Sequence[str | Path], sampling_rate: int) -> list[NDArray[np.float32]]:
    """Noises for `NoiseAugment`: a folder (recursive, in order of path), a file, or a list of files.

    Returns:
        Arrays (num_samples,) float32, channels averaged, resampled to `sampling_rate` hertz.

    Raises:
        CorpusError: nothing there, or a file cannot be read or is empty.
    """
    if isinstance(source, (str, Path)):
        folder = Path(source)
        if folder.is_dir():
            paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        else:
            paths = [folder]
    else:
        paths = [Path(path) for path in source]
    if not paths:
        raise CorpusError(f"no noise in {str(source)!r}: it holds no file of the kinds {', '.join(AUDIO_SUFFIXES)}")
    return [_read_noise(path, sampling_rate) for path in paths]


def _read_noise(path: Path, sampling_rate: int) -> NDArray[np.float32]:
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise CorpusError(f"the noise {str(path)!r} cannot be read: {error}") from None
    if len(samples) == 0 or not np.isfinite(samples).all():
        raise CorpusError(f"the noise {str(path)!r} is empty or holds samples that are not finite; leave it out")
    mono = torch.from_numpy(samples.mean(axis=1))
    return torchaudio.functional.resample(mono, rate, sampling_rate).numpy()


def _span(length: int, widest: int, rng: np.random.Generator) -> tuple[int, int]:
    width = int(rng.integers(widest + 1))
    start = int(rng.integers(length - width + 1))
    return start, start + width


def _check_range(name: str, bounds: tuple[float, float]) -> None:
    if len(bounds) != 2 or not bounds[0] <= bounds[1]:
        raise ConfigError(f"{name} is {bounds!r}, but must be a lowest and a highest value in dB")


def _check_probability(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name}: the value {value} is not within 0..1")
