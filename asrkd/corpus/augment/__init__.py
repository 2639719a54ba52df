"""Augmentation that is a pure function of (seed, pass over the data, utterance id).

Every transform draws from the `np.random.Generator` that it is given and from nothing else, and keeps the number of
samples or frames, so that soft targets and alignments still fit. (lhotse's SpecAugment draws from the interpreter's global
generators, which a background thread cannot share reproducibly.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
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
    snr: list[float] = setting(lambda: [0.0, 20.0])
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
        if len(self.snr) != 2 or self.snr[0] > self.snr[1]:
            yield "snr", f"must be a lowest and a highest value in dB, not {self.snr!r}"
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
        reverb_probability: float = 0.0,
        reverb: Sequence[str] = (),
        reverb_rooms: int = 40,
        codec_probability: float = 0.0,
        codecs: Sequence[str] = CODECS,
        time_warp: int = 0,
        speed: Sequence[float] = (),
        two_views: bool = False,
    ) -> Augment:
        """From plain values; what has probability, range or number 0 is left out.

        Args:
            front_end: makes the features.
            noise: files and folders of noise.
            noise_probability, snr: see `NoiseAugment`.
            gain_db: gains are drawn from -gain_db to gain_db.
            time_masks, time_mask_frames, frequency_masks, frequency_mask_bins: see `SpecAugment`.
            frequency_warp: see `FrequencyWarp`, `largest`.
            reverb_probability: see `Reverb`.
            reverb: files and folders of impulse responses; none: those of `reverb_rooms` simulated rooms.
            codec_probability, codecs: see `LossyCodec`.
            time_warp: see `TimeWarp`, `max_frames`.
            speed: refused, because other speeds make other frames than those that a teacher has labeled.
            two_views: draw the masks twice, for two views of each utterance that differ in them alone.

        Raises:
            ConfigError, CorpusError: a value or a noise that cannot be used.
        """
        if len(speed):
            raise ConfigError(
                f"speed is {list(speed)!r}, but stored targets are those of the audio at its own speed, frame by frame; use "
                "time_warp, which moves the targets with the speech, or label copies of the cuts at other speeds (lhotse's perturb_speed)"
            )
        samples: list[SampleTransform] = []
        if reverb_probability:
            rate = front_end.sampling_rate
            responses = [sound for place in reverb for sound in load_noises(place, rate)]
            if responses:
                samples.append(Reverb(responses, reverb_probability))
            else:
                samples.append(Reverb.simulated(reverb_rooms, rate, reverb_probability))
        if noise_probability and not noise:
            raise ConfigError(
                f"augment.noise_probability: is {noise_probability}, but no noise is named; name files or folders"
            )
        if noise_probability:
            sounds = [sound for place in noise for sound in load_noises(place, front_end.sampling_rate)]
            if len(snr) != 2:
                raise ConfigError(f"snr is {list(snr)!r}, but must be a lowest and a highest value in dB")
            samples.append(NoiseAugment(sounds, (snr[0], snr[1]), noise_probability))
        if gain_db:
            samples.append(Gain((-gain_db, gain_db)))
        if codec_probability:
            samples.append(LossyCodec(tuple(codecs), front_end.sampling_rate, probability=codec_probability))
        features: list[FeatureTransform] = []
        masked: list[FeatureTransform] = []
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
            masked.append(masks)
        time = TimeWarp(time_warp) if time_warp else None
        if two_views:
            return cls(tuple(samples), tuple(features), time, tuple(masked))
        return cls(tuple(samples), (*features, *masked), time)

    @property
    def fingerprint(self) -> str:
        parts = [*(one.fingerprint for one in self.features), *(one.fingerprint for one in self.samples)]
        parts += [self.time_warp.fingerprint] if self.time_warp else []
        return fingerprint.of_json(parts + (["views", *(one.fingerprint for one in self.views)] if self.views else []))
