"""Augmentation of samples: noise, gain, reverberation, lossy codecs. All keep the number of samples.

torchaudio and lhotse are imported where they are used: a loader without augmentation starts half a second earlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asrkd import fingerprint
from asrkd.corpus.augment.checks import check_probability, check_range
from asrkd.corpus.sound import open_sound
from asrkd.errors import ConfigError, CorpusError

CODECS = ("opus", "mp3", "vorbis", "gsm")
# GSM 06.10 is made for telephones.
_GSM_RATE = 8000


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
        check_range("snr", self.snr)
        check_probability("noise augmentation", self.probability)
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
        from torchaudio.functional import add_noise

        noisy = add_noise(
            torch.tensor(samples, dtype=torch.float32), torch.tensor(stretch, dtype=torch.float32), torch.tensor(snr)
        )
        return noisy.numpy()


@dataclass(frozen=True)
class Gain:
    """Multiplies an utterance by a gain drawn uniformly in dB, with a probability in 0..1."""

    decibels: tuple[float, float] = (-6.0, 6.0)
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_range("gain", self.decibels)
        check_probability("gain augmentation", self.probability)

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json(["gain", list(self.decibels), self.probability])

    def __call__(self, samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """(num_samples,) float32 -> (num_samples,) float32."""
        if rng.random() >= self.probability:
            return samples
        return (samples * np.float32(10.0 ** (rng.uniform(*self.decibels) / 20.0))).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Reverb:
    """Convolves an utterance with a random room's impulse response, aligned by the direct path.

    What was said stays where it was, and so do targets; the echo comes behind. The power stays as it was.

    Attributes:
        responses: impulse responses, arrays (num_samples,) float32 at the sampling rate of the speech.
        probability: of an utterance, 0..1.
    """

    responses: Sequence[NDArray[np.float32]]
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability("reverberation", self.probability)
        if not self.responses or any(not np.any(response) for response in self.responses):
            raise ConfigError("reverberation needs at least one impulse response, and none may be empty or silent")

    @classmethod
    def simulated(cls, rooms: int, sampling_rate: int, probability: float) -> Reverb:
        """With responses of random rooms (lhotse's `FastRandomRIRGenerator`), the same ones for the same number."""
        from lhotse.augmentation.utils import FastRandomRIRGenerator

        responses = []
        # The generator draws from torch's global generator, too.
        with torch.random.fork_rng(devices=[]):
            for room in range(rooms):
                torch.manual_seed(room)
                generator = FastRandomRIRGenerator(sr=sampling_rate, room_seed=room, source_seed=room)
                responses.append(np.asarray(generator(1)[0], dtype=np.float32))
        return cls(responses, probability)

    @property
    def fingerprint(self) -> str:
        responses = [fingerprint.of_bytes(np.asarray(one, np.float32).tobytes()) for one in self.responses]
        return fingerprint.of_json(["reverb", responses, self.probability])

    def __call__(self, samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """(num_samples,) float32 -> (num_samples,) float32."""
        if rng.random() >= self.probability or not np.any(samples):
            return samples
        response = self.responses[int(rng.integers(len(self.responses)))]
        direct = int(np.abs(response).argmax())
        from torchaudio.functional import fftconvolve

        wet = fftconvolve(torch.tensor(samples), torch.tensor(response))
        wet = wet[direct : direct + len(samples)]
        power = wet.square().mean().sqrt()
        return (wet * (float(np.sqrt(np.mean(np.square(samples)))) / power.clamp_min(1e-12))).numpy()


@dataclass(frozen=True)
class LossyCodec:
    """Passes an utterance through a lossy codec of a random strength (lhotse's `Compress`), which delays nothing.

    Attributes:
        codecs: of `opus`, `mp3`, `vorbis` and `gsm`; one is drawn. `gsm` goes through 8 kHz, as a telephone does.
        sampling_rate: of the speech, hertz.
        level: lowest and highest compression, 0..1, drawn uniformly; without meaning for `gsm`.
        probability: of an utterance, 0..1.
    """

    codecs: tuple[str, ...]
    sampling_rate: int
    level: tuple[float, float] = (0.3, 0.95)
    probability: float = 0.3

    def __post_init__(self) -> None:
        check_probability("lossy codecs", self.probability)
        unknown = sorted(set(self.codecs) - set(CODECS))
        if unknown or not self.codecs:
            raise ConfigError(
                f"lossy codec {unknown[0] if unknown else ''!r} is not known; choose from {', '.join(CODECS)}"
            )
        if not 0 <= self.level[0] <= self.level[1] <= 1:
            raise ConfigError(f"the level of lossy codecs is {self.level!r}, but must be two rising values within 0..1")

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json(["lossy_codec", [*self.codecs], self.sampling_rate, [*self.level], self.probability])

    def __call__(self, samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """(num_samples,) float32 -> (num_samples,) float32."""
        if rng.random() >= self.probability or len(samples) == 0:
            return samples
        from lhotse.augmentation.compress import Compress

        from asrkd.corpus.resampler import resample

        codec = self.codecs[int(rng.integers(len(self.codecs)))]
        compress = Compress(codec, float(rng.uniform(*self.level)))
        if codec != "gsm":
            return _fitted(compress(samples[None], self.sampling_rate)[0], len(samples))
        narrow = resample(torch.tensor(samples), self.sampling_rate, _GSM_RATE).numpy()
        coded = compress(narrow[None], _GSM_RATE)[0]
        return _fitted(resample(torch.tensor(coded), _GSM_RATE, self.sampling_rate).numpy(), len(samples))


def _fitted(samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Without the codec's padding after the end."""
    short = length - len(samples)
    return np.pad(samples, (0, short)) if short > 0 else np.ascontiguousarray(samples[:length])


def load_noises(source: str | Path | Sequence[str | Path], sampling_rate: int) -> list[NDArray[np.float32]]:
    """Noises for `NoiseAugment`: a folder (recursive, in order of path), a file, or a list of files.

    Returns:
        Arrays (num_samples,) float32, channels averaged, resampled to `sampling_rate` hertz.

    Raises:
        CorpusError: nothing there, or a file cannot be read or is empty.
    """
    from asrkd.corpus.folders import audio_files

    if isinstance(source, (str, Path)):
        try:
            paths = audio_files(Path(source)).files if Path(source).is_dir() else [Path(source)]
        except CorpusError as error:
            raise CorpusError(f"no noise in {str(source)!r}: {error}") from None
    else:
        paths = [Path(path) for path in source]
    if not paths:
        raise CorpusError(f"no noise in {str(source)!r}; give a folder of audio, a file or a list of files")
    return [_read_noise(path, sampling_rate) for path in paths]


def _read_noise(path: Path, sampling_rate: int) -> NDArray[np.float32]:
    try:
        sound = open_sound(path)
        samples = sound.read(0, sound.num_samples)
    except CorpusError as error:
        raise CorpusError(f"a noise cannot be read: {error}; leave it out") from None
    if samples.shape[1] == 0 or not np.isfinite(samples).all():
        raise CorpusError(f"the noise {str(path)!r} is empty or holds samples that are not finite; leave it out")
    from asrkd.corpus.resampler import resample

    mono = torch.from_numpy(samples.mean(axis=0))
    return resample(mono, sound.sampling_rate, sampling_rate).numpy()
