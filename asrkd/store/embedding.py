"""What a row holds for a student to read: audio or features, exact or smaller.

- `audio`: 16-bit FLAC, exact.
- `opus:KBPS`: Opus at about that many thousand bits a second, in Ogg. The student reads what it leaves; the teacher was given the samples before it.
- `features`: float32, exact.
- `features:8bit`: the mel values of an utterance on a grid of 256 steps from the lowest to the highest of each mel bin, so a value is off by
  at most half a step, 1/510 of its bin's range; stored as differences in time, which compress.
- `none`: nothing.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from asrkd.corpus import ogg
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import ConfigError, MismatchError, StoreError

# What a store carries for students unless something else is asked for.
DEFAULT_EMBED = "audio"
EMBEDS = ("none", "audio", "opus:KBPS", "features", "features:8bit")
# Of one channel, by libopus and libsndfile.
_KBPS = (6, 256)
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_STEPS = 255


@dataclass(frozen=True)
class Embedding:
    """
    Attributes:
        column: that is filled: `audio`, `features`, or "" for none.
        kbps: thousand bits a second of Opus; 0 for what is not Opus.
        eight_bit: whether features are on a grid.
    """

    column: str
    kbps: int = 0
    eight_bit: bool = False

    @property
    def spec(self) -> str:
        """The name by which `parse_embedding` makes an equal one."""
        if self.kbps:
            return f"opus:{self.kbps}"
        return f"{self.column or 'none'}{':8bit' if self.eight_bit else ''}"

    @property
    def exact(self) -> bool:
        """Whether a student reads exactly what the teacher was given."""
        return not self.kbps and not self.eight_bit

    def check(self, front_end: AnyFrontEnd) -> None:
        """Raise `ConfigError` if what this front end reads or gives cannot be embedded."""
        if self.column == "features" and not isinstance(front_end, FrontEnd):
            raise ConfigError(
                "the model reads samples, so there are no features to embed; embed audio (--embed audio or opus:24)"
            )
        if self.kbps and front_end.sampling_rate not in OPUS_RATES:
            raise ConfigError(
                f"embed is {self.spec!r}, but Opus takes {', '.join(map(str, OPUS_RATES))} Hz and the front end has {front_end.sampling_rate} Hz; "
                "use --embed audio"
            )

    def columns(
        self, key: str, samples: NDArray[np.int16], features: NDArray[np.float32], front_end: AnyFrontEnd
    ) -> dict[str, Any]:
        """What is embedded of an utterance `key`.

        Args:
            samples: (num_samples,).
            features: (T, F), of these samples.
        """
        if self.column == "audio":
            rate = front_end.sampling_rate
            data, suffix = (
                (opus_bytes(samples, rate, self.kbps), "opus") if self.kbps else (_flac(samples, rate), "flac")
            )
            return {"audio": {"bytes": data, "path": f"{key}.{suffix}"}}
        if self.column == "features":
            values = np.asarray(features, "<f4")
            num_mels = front_end.num_mels if isinstance(front_end, FrontEnd) else features.shape[1]
            return {"features": _on_grid(values.reshape(-1, num_mels)) if self.eight_bit else values.tobytes()}
        return {}

    def features(self, data: bytes | None, num_samples: int, front_end: FrontEnd, what: str) -> NDArray[np.float32]:
        """(T, F) the features that the column `features` holds of `num_samples` samples; not to be written to.

        Raises:
            MismatchError: they are not as many as the samples make.
        """
        frames, width = front_end.frame_law().num_features(num_samples), front_end.feature_dim
        data = b"" if data is None else data
        size = 8 * front_end.num_mels + frames * width if self.eight_bit else 4 * frames * width
        if len(data) != size:
            kind = "8-bit values and their grids" if self.eight_bit else "float32"
            raise MismatchError(
                f"{what} has {len(data)} bytes of features, but {num_samples} samples make {frames} frames of {width} {kind} ({size} bytes)"
            )
        if self.eight_bit:
            return _off_grid(data, front_end.num_mels).reshape(frames, width)
        return np.frombuffer(data, "<f4").reshape(frames, width)


def parse_embedding(spec: str) -> Embedding:
    """The embedding that a spec names.

    Raises:
        ConfigError: it names none.
    """
    plain = {"none": "", "audio": "audio", "features": "features"}
    if spec in plain:
        return Embedding(plain[spec])
    if spec == "features:8bit":
        return Embedding("features", eight_bit=True)
    opus = re.fullmatch(r"opus:([0-9]{1,4})", spec)
    if opus and _KBPS[0] <= int(opus[1]) <= _KBPS[1] and str(int(opus[1])) == opus[1]:
        return Embedding("audio", kbps=int(opus[1]))
    raise ConfigError(
        f"embed is {spec!r}, but must be one of {', '.join(EMBEDS)}, where KBPS is a whole number from {_KBPS[0]} to {_KBPS[1]}"
    )


def decode_audio(audio: Mapping[str, Any] | None, sampling_rate: int, exact: bool, what: str) -> NDArray[Any]:
    """(num_samples,) float32 of the column `audio`; if `exact`, int16 of 16-bit audio of one channel.

    Raises:
        StoreError: it is missing or damaged.
        MismatchError: it has another sampling rate.
    """
    if audio is None or not audio["bytes"]:
        raise StoreError(f"{what} has no embedded audio; check the store with `asrkd store verify`")
    try:
        with soundfile.SoundFile(io.BytesIO(audio["bytes"])) as file:
            rate = file.samplerate
            exact = exact and file.subtype == "PCM_16" and file.channels == 1
            samples: NDArray[Any] = file.read(dtype="int16" if exact else "float32")
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise StoreError(f"the embedded audio of {what} cannot be decoded: {error}; label the corpus again") from None
    if rate != sampling_rate:
        raise MismatchError(f"{what} has audio at {rate} Hz, but the front end takes {sampling_rate} Hz")
    return samples.mean(axis=1) if samples.ndim == 2 else samples


def _flac(samples: NDArray[np.int16], rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def opus_bytes(samples: NDArray[np.int16], rate: int, kbps: int) -> bytes:
    """(num_samples,) as Opus in Ogg, of about `kbps` thousand bits a second; the same bytes for the same samples."""
    buffer = io.BytesIO()
    # libsndfile's scale: 0 is 256 kbit/s, 1 is 6.
    level = (_KBPS[1] - kbps) / (_KBPS[1] - _KBPS[0])
    soundfile.write(buffer, samples, rate, format="OGG", subtype="OPUS", compression_level=level)
    # libsndfile draws the number of the stream; the same audio has to have the same bytes.
    return ogg.with_serial(buffer.getvalue(), 0)


def _on_grid(mel: NDArray[np.float32]) -> bytes:
    """(windows, bins) -> lowest values and steps (bins,) float32, then differences (windows, bins) of grid points from those before, modulo 256."""
    low = mel.min(axis=0)
    step = ((mel.max(axis=0) - low) / np.float32(_STEPS)).astype("<f4")
    points = np.rint((mel - low) / np.where(step > 0, step, np.float32(1))).clip(0, _STEPS).astype(np.uint8)
    return low.astype("<f4").tobytes() + step.tobytes() + np.diff(points, axis=0, prepend=np.uint8(0)).tobytes()


def _off_grid(data: bytes, bins: int) -> NDArray[np.float32]:
    low, step = np.frombuffer(data, "<f4", count=2 * bins).reshape(2, bins)
    points = np.frombuffer(data, np.uint8, offset=8 * bins).reshape(-1, bins).cumsum(axis=0, dtype=np.uint8)
    return points * step + low
