"""Audio in and out: the files of a corpus, the samples of a cut."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import Recording
from lhotse.augmentation import AudioTransform, Resample
from lhotse.cut import Cut, MixedCut, PaddingCut
from numpy.typing import NDArray

from asrkd.corpus.lhotse_backend import TOLERANCE, use_sound_backend
from asrkd.corpus.sound import UnknownFormat, open_sound, readable
from asrkd.errors import ConfigError, CorpusError

# Kinds whose headers are believed when a corpus is planned (and checked when the audio is read).
_HEADER_ONLY = (".flac", ".wav", ".wave", ".aiff", ".aif", ".w64", ".caf", ".rf64", ".au")
# Decoders of lossy audio give peaks of up to about 1.5, and mixing can give some more; samples of 16-bit range have peaks
# of hundreds. Twice full scale (6 dB over) is where clipping is no longer a detail.
MAX_PEAK = 2.0
# Channels cancel where their mean has less than this share of the power that the mean of unrelated channels would have
# (a correlation of -0.95 and below: one is the other, turned over).
_CANCELED = 0.05


@dataclass(frozen=True)
class Unreadable:
    """An audio file or a row that cannot be used, with the id that its cut would have."""

    id: str
    reason: str


def file_facts(path: str, name: str) -> tuple[int, int, int] | Unreadable:
    """Sampling rate, channels and samples of the audio file at an absolute path, whose cut or recording is to be called `name`."""
    if not path.isascii() and path != readable(path):
        return Unreadable(
            readable(name),
            f"audio file {readable(path)!r} has a name that is not UTF-8, which no manifest can hold; rename it (convmv)",
        )
    try:
        return _header(path)
    except UnknownFormat as unknown:
        try:
            recording = Recording.from_file(path, recording_id=name)
        except Exception as error:  # lhotse's backends raise many kinds
            return Unreadable(name, _no_decoder(path, unknown, error))
        return recording.sampling_rate, recording.num_channels, recording.num_samples
    except CorpusError as error:
        return Unreadable(name, f"{error}; repair it or leave it out")


def _header(path: str) -> tuple[int, int, int]:
    """Sampling rate, channels and samples of a file, by its header alone where that is nearly always right."""
    if os.path.splitext(path)[1].lower() in _HEADER_ONLY and os.path.isfile(path):  # opening a pipe would wait
        try:
            with soundfile.SoundFile(path) as decoder:
                if decoder.format not in ("MP3", "OGG", "RAW") and 0 < decoder.frames < 1 << 60:
                    return decoder.samplerate, decoder.channels, decoder.frames
        except (soundfile.SoundFileError, OSError):
            pass  # told better by what follows
    sound = open_sound(path)
    if not sound.num_samples:
        raise CorpusError(f"{sound.what} holds no samples" + (f": {sound.fault}" if sound.fault else ""))
    return sound.sampling_rate, sound.channels, sound.num_samples


def _no_decoder(path: str, unknown: CorpusError, error: Exception) -> str:
    if path.lower().endswith(".sph"):
        return f"audio file {path!r} is a sphere file that libsndfile cannot decode (shorten?); install sph2pipe (lhotse install-sph2pipe)"
    if path.lower().endswith((".m4a", ".aac", ".wma", ".amr", ".mp4", ".webm")):
        return f"audio file {path!r} needs FFmpeg, which lhotse does not find; install ffmpeg with torchcodec, or convert it to FLAC"
    return f"{unknown}, and no other decoder can read it ({type(error).__name__}); repair it, convert it to FLAC or leave it out"


def wrong_times(start: Any, duration: Any, length: float | None = None) -> str | None:
    """What is wrong with the stretch of a recording that a row or a manifest names; None if nothing is.

    Args:
        start, duration: seconds, numbers.
        length: of the recording, in seconds, if it is known.
    """
    try:
        if not (0 <= start < math.inf):
            return f"starts at {start} s, but must start at 0 s or later"
        if not (0 < duration < math.inf):
            return f"has the duration {duration} s, but must be longer than 0 s"
    except TypeError:
        return f"has the start {start!r} and the duration {duration!r}, but these must be numbers of seconds"
    if length is not None and start + duration > length + TOLERANCE:
        unit = ", or are its times not in seconds?" if start >= length and start / 1000 < length else ""
        return f"reaches from {start:g} to {start + duration:g} s, but its recording is {length:.3f} s long; correct its times{unit}"
    return None


def read_audio(cut: Cut, sampling_rate: int) -> NDArray[np.float32]:
    """(num_samples,) float32 samples of a cut: one channel (the mean of all that the cut has), resampled by lhotse.

    Raises:
        CorpusError: the audio is missing, damaged or shorter than the cut, not finite, or not of the range -1..1 (peaks
            up to `MAX_PEAK` are left for the caller to clip), or its channels cancel each other.
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
    use_sound_backend()
    for recording, start, duration in _stretches(cut):
        wrong = wrong_times(start, duration, recording.duration)
        if wrong:
            raise CorpusError(f"{what} {wrong} (lhotse fix, or cut.truncate)")
        _check_files(recording, start + duration, what)
    try:
        samples = np.atleast_2d(np.asarray(_loaded(cut, parts, sampling_rate), dtype=np.float32))
    except CorpusError as error:
        raise CorpusError(f"{what}: {_first_line(error)}; repair it or leave the cut out") from None
    except Exception as error:  # lhotse and its audio backends raise many kinds
        raise CorpusError(
            f"{what}: the audio cannot be read ({_reason(error)}); repair it or leave the cut out"
        ) from None
    return _one_channel(samples, what)


def _stretches(cut: Cut) -> Iterator[tuple[Recording, float, float]]:
    """(recording, start, duration) of all that a cut is made of."""
    for track in getattr(cut, "tracks", ()):
        yield from _stretches(track.cut)
    recording = getattr(cut, "recording", None)
    if recording is not None:
        yield recording, cut.start, cut.duration


def _check_files(recording: Recording, end: float, what: str) -> None:
    """Compare what a recording says of its files with them.

    A cut that ends within the file has its audio, whatever the file's end is like; one that ends where its recording does is
    meant to have all of it.
    """
    length = recording.duration
    for tfn in reversed(recording.transforms or []):
        transform = tfn if isinstance(tfn, AudioTransform) else AudioTransform.from_dict(dict(tfn))
        _, length = transform.reverse_timestamps(0.0, length, recording.sampling_rate)
        length = recording.duration if length is None else length
    for source in recording.sources:
        if source.type not in ("file", "memory") or source.has_video:
            continue
        if source.type == "file" and ".tar/" in source.source:
            continue
        try:
            sound = open_sound(source.source)
        except UnknownFormat:
            continue
        except CorpusError as error:
            raise CorpusError(f"{what}: {error}; repair it or leave the cut out") from None
        if not recording.transforms and sound.sampling_rate != recording.sampling_rate:
            raise CorpusError(
                f"{what}: {sound.what} has a sampling rate of {sound.sampling_rate} Hz, but its recording {recording.id!r} says "
                f"{recording.sampling_rate} Hz; make the manifest again"
            )
        if len(source.channels) != sound.channels:
            raise CorpusError(
                f"{what}: {sound.what} has {sound.channels} channels, but its recording {recording.id!r} says "
                f"{len(source.channels)}; make the manifest again"
            )
        if end < recording.duration - TOLERANCE and not recording.transforms:
            continue
        if sound.fault:
            raise CorpusError(f"{what}: {sound.what} cannot be read whole: {sound.fault}")
        held = sound.num_samples / sound.sampling_rate
        slack = TOLERANCE if not recording.transforms else 2 * TOLERANCE + 1e-4 * held
        if abs(held - length) > slack:
            raise CorpusError(
                f"{what}: its recording {recording.id!r} says {round(length * sound.sampling_rate)} samples ({length:.3f} s), but "
                f"{sound.what} holds {sound.num_samples} ({held:.3f} s); make the manifest again"
            )


def _one_channel(samples: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """(channels, num_samples) -> (num_samples,): their mean, unless that is not what is in them."""
    peak = float(np.abs(samples).max(initial=0.0))
    if not math.isfinite(peak):
        raise CorpusError(f"{what} holds samples that are NaN or infinite; repair the recording or leave the cut out")
    if peak > MAX_PEAK:
        raise CorpusError(
            f"{what} has samples of up to {peak:.6g}, but audio in floating point lies within -1..1, and clipping it would leave "
            "noise; scale the file (samples of 16-bit range: divide them by 32768)"
        )
    if len(samples) == 1:
        return samples[0]
    mono = samples.mean(axis=0)
    if samples.size:
        power = np.square(samples, dtype=np.float64).mean(axis=1).sum() / len(samples) ** 2
        if power > 1e-8 and np.square(mono, dtype=np.float64).mean() < _CANCELED * power:
            raise CorpusError(
                f"{what} has {len(samples)} channels that cancel each other (one is another turned over), so their mean is not "
                "what is heard; choose one: label plan --channel 0, a column channel, or a MonoCut"
            )
    return mono


def _loaded(cut: Cut, parts: Sequence[Cut], sampling_rate: int) -> NDArray[np.float32]:
    """(channels, num_samples) of a cut whose tracks, or that itself, are `parts`."""
    if all(part.sampling_rate == sampling_rate for part in parts):
        return cut.load_audio()
    if getattr(cut, "transforms", None):
        # lhotse's resampling of a mixed cut loses what is done to the mix.
        return Resample(cut.sampling_rate, sampling_rate)(cut.load_audio())
    return cut.resample(sampling_rate).load_audio()


def refuse_silence(samples: NDArray[Any], what: str) -> None:
    """Refuse samples that are all the same: nothing was recorded, and whatever a transcript or a teacher says of it is wrong.

    Raises:
        CorpusError: it is so.
    """
    if len(samples) and (samples == samples[0]).all():
        raise CorpusError(
            f"{what} is digital silence: all of its {len(samples)} samples are {samples[0]}; leave it out, or choose another channel"
        )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip()


def _reason(error: Exception) -> str:
    """An error of lhotse in one line: without what it appends, but with all that its backends say."""
    lines = [line.strip() for line in str(error).partition("[extra info]")[0].splitlines()]
    lines = [line for line in lines if line and not line.startswith("Set LHOTSE_")]
    return f"{type(error).__name__}: {' '.join(lines)}" if lines else type(error).__name__


def write_audio(path: Path, samples: NDArray[np.float32], sampling_rate: int) -> None:
    """Write (num_samples,) samples as 16-bit audio, the kind by the file's ending."""
    if samples.ndim != 1:
        raise ConfigError(f"audio to write must be one channel, not of shape {samples.shape}")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), samples, sampling_rate, subtype="PCM_16")
