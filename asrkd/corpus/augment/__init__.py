"""Augmentation that is a pure function of (seed, pass over the data, utterance id).

Every transform draws from the `np.random.Generator` that it is given and from nothing else, and keeps the number of
samples or frames, so that soft targets and alignments still fit. (lhotse's SpecAugment draws from the interpreter's global
generators, which a background thread cannot share reproducibly.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asrkd import fingerprint
from asrkd.config import BY_CONTENT, check, setting
from asrkd.corpus.augment.features import FrequencyWarp, SpecAugment, TimeWarp
from asrkd.corpus.augment.samples import CODECS, Gain, LossyCodec, NoiseAugment, Reverb, load_noises
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import ConfigError

__all__ = [
    "Augment",
    "AugmentConfig",
    "FrequencyWarp",
    "Gain",
    "LossyCodec",
    "NoiseAugment",
    "Reverb",
    "SpecAugment",
    "TimeWarp",
    "load_noises",
    "utterance_rng",
]


@dataclass
class AugmentConfig:
    """Augmentation of the training audio and features; the targets stay those of the clean audio (`asrkd.corpus.augment`)."""

    noise: list[str] = setting(list, resume=BY_CONTENT)
    """Files and folders of noise."""
    noise_probability: float = setting(0.0, at_least=0, at_most=1)
    """Share of utterances that get noise."""
    snr: list[float] = setting(lambda: [0.0, 20.0], pair=True)
    """Lowest and highest signal-to-noise ratio in dB."""
    gain_db: float = setting(0.0, at_least=0)
    """Largest random change of volume in dB, up or down."""
    time_masks: int = setting(0, at_least=0)
    """SpecAugment time masks per utterance."""
    time_mask_frames: int = setting(5, at_least=0)
    """Largest width of a time mask, in frames."""
    frequency_masks: int = setting(0, at_least=0)
    """SpecAugment frequency masks per utterance."""
    frequency_mask_bins: int = setting(8, at_least=0)
    """Largest width of a frequency mask, in mel bins."""
    frequency_warp: float = setting(0.0, at_least=0, below=0.5)
    """Largest change of the vocal tract length (VTLP), as a fraction; 0 disables it."""
    reverb_probability: float = setting(0.0, at_least=0, at_most=1)
    """Share of utterances that get reverberation."""
    reverb: list[str] = setting(list, resume=BY_CONTENT)
    """Files and folders of impulse responses; without any, rooms are simulated."""
    reverb_rooms: int = setting(40, at_least=1)
    """Number of simulated rooms."""
    codec_probability: float = setting(0.0, at_least=0, at_most=1)
    """Share of utterances that pass through a lossy codec."""
    codecs: list[str] = setting(lambda: list(CODECS), one_of=CODECS)
    """Lossy codecs to draw from."""
    time_warp: int = setting(0, at_least=0)
    """Largest shift of a frame by SpecAugment's time warp, in frames, which moves the targets too; 0 disables it."""
    speed: list[float] = setting(list)
    """Must stay empty: speed perturbation would change the frames that the teacher labeled."""

    def __post_init__(self) -> None:
        check(self, "augment")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.codec_probability and not self.codecs:
            yield "codecs", f"must name at least one of {', '.join(CODECS)}, not {self.codecs!r}"
        if self.speed:
            yield (
                "speed",
                f"must stay empty, not {self.speed!r}: stored targets are those of the audio at its own speed, frame by frame; use time_warp, which "
                "moves the targets with the speech, or label copies of the cuts at other speeds (lhotse's perturb_speed)",
            )


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


@dataclass(frozen=True)
class Augment:
    """All augmentation of a run: transforms of samples, then of time, then of features, applied in order.

    Targets stay where they are, but for a time warp, which moves them with the speech.

    Attributes:
        views: transforms that come last and are drawn twice, so that each utterance has two views (`Batch.second_view`).
    """

    samples: tuple[SampleTransform, ...] = ()
    features: tuple[FeatureTransform, ...] = ()
    time_warp: TimeWarp | None = None
    views: tuple[FeatureTransform, ...] = ()

    @classmethod
    def from_settings(cls, front_end: AnyFrontEnd, settings: AugmentConfig, *, two_views: bool = False) -> Augment:
        """As a config says; what has probability, range or number 0 is left out.

        Args:
            front_end: makes the features.
            two_views: draw the masks twice, for two views of each utterance that differ in them alone.

        Raises:
            ConfigError, CorpusError: a noise or impulse response that cannot be used.
        """
        samples: list[SampleTransform] = []
        if settings.reverb_probability:
            rate = front_end.sampling_rate
            responses = [sound for place in settings.reverb for sound in load_noises(place, rate)]
            if responses:
                samples.append(Reverb(responses, settings.reverb_probability))
            else:
                samples.append(Reverb.simulated(settings.reverb_rooms, rate, settings.reverb_probability))
        if settings.noise_probability and not settings.noise:
            raise ConfigError(
                f"augment.noise_probability: is {settings.noise_probability}, but no noise is named; name files or folders"
            )
        if settings.noise_probability:
            sounds = [sound for place in settings.noise for sound in load_noises(place, front_end.sampling_rate)]
            samples.append(NoiseAugment(sounds, (settings.snr[0], settings.snr[1]), settings.noise_probability))
        if settings.gain_db:
            samples.append(Gain((-settings.gain_db, settings.gain_db)))
        if settings.codec_probability:
            codecs = tuple(settings.codecs)
            samples.append(LossyCodec(codecs, front_end.sampling_rate, probability=settings.codec_probability))
        features: list[FeatureTransform] = []
        masked: list[FeatureTransform] = []
        if settings.frequency_warp:
            nyquist = front_end.sampling_rate / 2
            # Samples are refused by what would change them.
            band = front_end.band if isinstance(front_end, FrontEnd) else (0.0, nyquist)
            features.append(FrequencyWarp(settings.frequency_warp, band, nyquist))
        if settings.time_masks or settings.frequency_masks:
            masks = SpecAugment(
                time_masks=settings.time_masks,
                max_time=settings.time_mask_frames,
                frequency_masks=settings.frequency_masks,
                max_frequency=settings.frequency_mask_bins,
                probability=1.0,
            )
            masked.append(masks)
        time = TimeWarp(settings.time_warp) if settings.time_warp else None
        if two_views:
            return cls(tuple(samples), tuple(features), time, tuple(masked))
        return cls(tuple(samples), (*features, *masked), time)

    @property
    def fingerprint(self) -> str:
        parts = [*(one.fingerprint for one in self.features), *(one.fingerprint for one in self.samples)]
        parts += [self.time_warp.fingerprint] if self.time_warp else []
        return fingerprint.of_json(parts + (["views", *(one.fingerprint for one in self.views)] if self.views else []))
