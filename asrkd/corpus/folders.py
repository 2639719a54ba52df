"""A folder of audio as a corpus: every audio file below it is one untranscribed cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lhotse.cut import Cut

from asrkd.corpus.audio import AUDIO_SUFFIXES, Unreadable, whole_recording
from asrkd.errors import CorpusError


def audio_files(path: Path) -> list[Path]:
    """The audio files below a folder, in order of name."""
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise CorpusError(f"folder {str(path)!r} holds no audio ({', '.join(AUDIO_SUFFIXES)}) and no lhotse Shar")
    return files


def folder_cuts(root: Path, files: list[Path]) -> Iterator[Cut | Unreadable]:
    """Each file as a whole cut, named by its path below `root` without the suffix."""
    for file in files:
        name = file.relative_to(root).with_suffix("").as_posix()
        recording = whole_recording(file, name)
        yield recording if isinstance(recording, Unreadable) else recording.to_cut().with_id(name)
