"""Audio in and out: the files of a corpus, the samples of a cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from lhotse import Recording
from lhotse.augmentation import Resample
from lhotse.cut import Cut, MixedCut, PaddingCut
from numpy.typing import NDArray

from asrkd.errors import ConfigError, CorpusError

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3", ".m4a", ".sph")


@dataclass(frozen=True)
class Unreadable:
    """An audio file that cannot be opened, with the id that its cut would have."""

    id: str
    reason: str


def whole_recording(file: Path, name: str) -> Recording | Unreadable:
    """The recording of an audio file, named `name`."""
    if not file.exists():
        return Unreadable(name, f"audio file {str(file)!r} does not exist; correct the table or leave the row out")
    try:
        return Recording.from_file(file, recording_id=name)
    except Exception as error:
        return Unreadable(
            name, f"audio file {str(file)!r} cannot be read ({_reason(error)}); repair it or leave it out"
        )


def read_audio(cut: Cut, sampling_rate: int) -> NDArray[np.float32]:
    """(num_samples,) float32 samples of a cut in -1..1: one channel (the mean of all), resampled by lhotse.

    Raises:
        CorpusError: the audio is missing, damaged or shorter than the cut, or not finite.
    """
    what = f"cut {cut.id!r}"
    parts = [track.cut for track in cut.tracks] if isinstance(cut, MixedCut) else [cut]
    if all(isinstance(part, PaddingCut) for part in parts):
        raise CorpusError(f"{what} is padding alone, which is silence, so there is nothing to label; leave it out")
    for part in parts:
        if not part.has_recording:
            features = ", only features," if part.has_features else ""
            raise CorpusError(
                f"{what} has no recording{features} so there is no audio to read; give cuts with recordings"
            )
        recording = getattr(part, "recording", None)
        if recording is not None and part.end > recording.duration + 0.5 / recording.sampling_rate:
            raise CorpusError(
                f"{what} ends at {part.end:.3f} s, but its recording {recording.id!r} is {recording.duration:.3f} s long; "
                "correct the manifest (lhotse fix, or cut.truncate)"
            )
    try:
        samples = np.asarray(_loaded(cut, parts, sampling_rate), dtype=np.float32)
    except Exception as error:  # lhotse and its audio backends raise many kinds
        raise CorpusError(
            f"{what}: the audio cannot be read ({_reason(error)}); repair it or leave the cut out"
        ) from None
    mono = samples.mean(axis=0) if samples.ndim == 2 else samples
    if not np.isfinite(mono).all():
        raise CorpusError(f"{what} holds samples that are NaN or infinite; repair the recording or leave the cut out")
    return mono


def _loaded(cut: Cut, parts: Sequence[Cut], sampling_rate: int) -> NDArray[np.float32]:
    """(channels, num_samples) of a cut whose tracks, or that itself, are `parts`."""
    if all(part.sampling_rate == sampling_rate for part in parts):
        return cut.load_audio()
    if getattr(cut, "transforms", None):
        # lhotse's resampling of a mixed cut loses what is done to the mix.
        return Resample(cut.sampling_rate, sampling_rate)(cut.load_audio())
    return cut.resample(sampling_rate).load_audio()


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def write_audio(path: Path, samples: NDArray[np.float32], sampling_rate: int) -> None:
    """Write (num_samples,) samples as 16-bit audio, the kind by the file's ending."""
    if samples.ndim != 1:
        raise ConfigError(f"audio to write must be one channel, not of shape {samples.shape}")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), samples, sampling_rate, subtype="PCM_16")
