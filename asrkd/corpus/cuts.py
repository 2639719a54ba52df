"""Corpus in: lhotse cuts, a folder of audio files, or a table, all read lazily as lhotse `CutSet`s."""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.cut import Cut
from lhotse.cut.set import deserialize_cut
from lhotse.serialization import load_jsonl
from numpy.typing import NDArray

from asrkd.errors import ConfigError, CorpusError

T = TypeVar("T")
AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3", ".m4a", ".sph")
_MANIFESTS = (".jsonl", ".jsonl.gz")
_COLUMNS = ("audio", "id", "text", "speaker", "start", "duration")


def open_cuts(path: str | Path) -> CutSet:
    """The cuts of a corpus, read as they are iterated.

    Args:
        path: a lhotse manifest (`.jsonl`, `.jsonl.gz`), a lhotse Shar folder (`cuts.*.jsonl.gz` with `recording.*.tar`),
            any other folder (every audio file below it is one untranscribed cut), or a `.tsv`/`.csv` table with a
            header: `audio` (relative to the table), and optionally `id`, `text`, `speaker`, `start`, `duration`.

    Raises:
        CorpusError: the path is missing, of another kind, or holds nothing.
    """
    path = Path(path)
    if path.is_dir():
        if any(path.glob("cuts.*.jsonl*")):
            return CutSet.from_shar(in_dir=path)
        files = _audio_files(path)
        return CutSet(_Lazy(lambda: _readable(_folder_cuts(path, files))))
    if not path.exists():
        raise CorpusError(f"corpus {str(path)!r} does not exist; give a cuts manifest, a folder of audio or a table")
    if path.suffix in (".tsv", ".csv"):
        return CutSet(_Lazy(lambda: _readable(_table_cuts(path))))
    if path.name.endswith(_MANIFESTS):
        return CutSet.from_jsonl_lazy(path)
    raise CorpusError(
        f"corpus {str(path)!r} is of no known kind; give .jsonl, .jsonl.gz, .tsv, .csv, a Shar folder or a folder of audio"
    )


class _Lazy:
    """An iterable that can be iterated again."""

    def __init__(self, make) -> None:  # type: ignore[no-untyped-def]
        self._make = make

    def __iter__(self) -> Iterator[Cut]:
        return self._make()


def iterate(cuts: Iterable[T], *, what: str) -> Iterator[T]:
    """The cuts one by one; a manifest that is damaged or empty is a `CorpusError` that names `what`."""
    empty = True
    try:
        for cut in cuts:
            empty = False
            yield cut
    except CorpusError:
        raise
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
        tarfile.TarError,
    ) as error:
        raise CorpusError(
            f"{what!r} cannot be read as cuts ({type(error).__name__}: {error}); is it damaged?"
        ) from None
    if empty:
        raise CorpusError(f"{what!r} holds no cuts, so there is nothing to do; check how it was made")


def iterate_json(path: str | Path) -> Iterator[dict[str, Any]]:
    """The cuts of a corpus in lhotse's JSON form, for work that does not touch audio; several times as fast as `iterate`.

    An audio file of a folder or a table that cannot be opened is `{"id": ..., "unreadable": reason}`.

    Raises:
        CorpusError: as `open_cuts` and `iterate`.
    """
    path = Path(path)
    if path.is_file() and path.name.endswith(_MANIFESTS):
        items: Iterable[Any] = load_jsonl(path)
    elif path.is_dir() and not any(path.glob("cuts.*.jsonl*")):
        items = _folder_cuts(path, _audio_files(path))
    elif path.is_file() and path.suffix in (".tsv", ".csv"):
        items = _table_cuts(path)
    else:
        items = open_cuts(path)
    for item in iterate(items, what=str(path)):
        if isinstance(item, Unreadable):
            yield {"id": item.id, "unreadable": item.reason}
        elif not isinstance(item, dict):
            yield item.to_dict()
        else:
            yield _checked(item, path)


def _checked(cut: dict[str, Any], path: Path) -> dict[str, Any]:
    """A cut as a manifest has it, with the `duration` that a mixed one leaves out."""
    if "type" not in cut or not isinstance(cut.get("id"), str):
        shown = json.dumps(cut, ensure_ascii=False)
        raise CorpusError(f"{str(path)!r} holds {shown[:80]!r}, which is not a cut of lhotse; give a cuts manifest")
    if cut["type"] == "MonoCut" and isinstance(cut.get("duration"), (int, float)):
        return cut
    try:
        return cut | {"duration": deserialize_cut(dict(cut)).duration}
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise CorpusError(
            f"cut {cut['id']!r} of {str(path)!r} is not a cut of lhotse ({type(error).__name__}: {error}); correct the manifest"
        ) from None


@dataclass(frozen=True)
class Unreadable:
    """An audio file that cannot be opened, with the id that its cut would have."""

    id: str
    reason: str


def _readable(items: Iterable[Cut | Unreadable]) -> Iterator[Cut]:
    for item in items:
        if isinstance(item, Unreadable):
            raise CorpusError(item.reason)
        yield item


def _audio_files(path: Path) -> list[Path]:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise CorpusError(f"folder {str(path)!r} holds no audio ({', '.join(AUDIO_SUFFIXES)}) and no lhotse Shar")
    return files


def _folder_cuts(root: Path, files: list[Path]) -> Iterator[Cut | Unreadable]:
    for file in files:
        name = file.relative_to(root).with_suffix("").as_posix()
        recording = _whole_recording(file, name)
        yield recording if isinstance(recording, Unreadable) else recording.to_cut().with_id(name)


def _whole_recording(file: Path, name: str) -> Recording | Unreadable:
    if not file.exists():
        return Unreadable(name, f"audio file {str(file)!r} does not exist; correct the table or leave the row out")
    try:
        return Recording.from_file(file, recording_id=name)
    except Exception as error:
        return Unreadable(
            name, f"audio file {str(file)!r} cannot be read ({_reason(error)}); repair it or leave it out"
        )


def _table_cuts(path: Path) -> Iterator[Cut | Unreadable]:
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        unknown = [name for name in reader.fieldnames or [] if name not in _COLUMNS]
        if "audio" not in (reader.fieldnames or []) or unknown:
            raise CorpusError(
                f"table {str(path)!r} has the columns {reader.fieldnames}; it needs 'audio' and may have "
                f"{', '.join(_COLUMNS[1:])}"
            )
        for number, row in enumerate(reader, 2):
            file = path.parent / row["audio"]
            name = row.get("id") or Path(row["audio"]).with_suffix("").as_posix()
            recording = _whole_recording(file, name)
            if isinstance(recording, Unreadable):
                yield recording
                continue
            try:
                start = float(row.get("start") or 0.0)
                duration = float(row.get("duration") or recording.duration - start)
            except ValueError as error:
                raise CorpusError(
                    f"table {str(path)!r} line {number}: {error}; start and duration are seconds"
                ) from None
            cut = MonoCut(id=name, start=start, duration=duration, channel=0, recording=recording)
            if row.get("text") or row.get("speaker"):
                cut.supervisions = [
                    SupervisionSegment(
                        id=name,
                        recording_id=recording.id,
                        start=0.0,
                        duration=duration,
                        text=row.get("text") or None,
                        speaker=row.get("speaker") or None,
                    )
                ]
            yield cut


def text_of(cut: Cut) -> str | None:
    """The transcript: the texts of the supervisions in order of time; None without any."""
    texts = [s.text for s in sorted(cut.supervisions, key=lambda s: s.start) if s.text is not None]
    return " ".join(texts) if texts else None


def speaker_of(cut: Cut) -> str | None:
    """The speaker of the first supervision that names one."""
    return next((s.speaker for s in cut.supervisions if s.speaker), None)


def read_audio(cut: Cut, sampling_rate: int) -> NDArray[np.float32]:
    """(num_samples,) float32 samples of a cut in -1..1: one channel (the mean of all), resampled by lhotse.

    Raises:
        CorpusError: the audio is missing, damaged or shorter than the cut, or not finite.
    """
    what = f"cut {cut.id!r}"
    recording = getattr(cut, "recording", None)
    if recording is not None and cut.end > recording.duration + 0.5 / recording.sampling_rate:
        raise CorpusError(
            f"{what} ends at {cut.end:.3f} s, but its recording {recording.id!r} is {recording.duration:.3f} s long; "
            "correct the manifest (lhotse fix, or cut.truncate)"
        )
    if not cut.has_recording:
        raise CorpusError(f"{what} has no recording, so there is no audio to read; give cuts with recordings")
    try:
        source = cut if cut.sampling_rate == sampling_rate else cut.resample(sampling_rate)
        samples = np.asarray(source.load_audio(), dtype=np.float32)
    except Exception as error:  # lhotse and its audio backends raise many kinds
        raise CorpusError(
            f"{what}: the audio cannot be read ({_reason(error)}); repair it or leave the cut out"
        ) from None
    mono = samples.mean(axis=0) if samples.ndim == 2 else samples
    if not np.isfinite(mono).all():
        raise CorpusError(f"{what} holds samples that are NaN or infinite; repair the recording or leave the cut out")
    return mono


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def write_audio(path: Path, samples: NDArray[np.float32], sampling_rate: int) -> None:
    """Write (num_samples,) samples as 16-bit audio, the kind by the file's ending."""
    if samples.ndim != 1:
        raise ConfigError(f"audio to write must be one channel, not of shape {samples.shape}")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(path), samples, sampling_rate, subtype="PCM_16")
