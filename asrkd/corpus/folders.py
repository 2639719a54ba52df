"""A folder of audio as a corpus: every audio file below it is one untranscribed cut."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asrkd.corpus.audio import Unreadable
from asrkd.corpus.channels import recording_cut
from asrkd.corpus.sound import SUFFIXES, readable
from asrkd.corpus.utterances import file_recording
from asrkd.errors import CorpusError

_log = logging.getLogger(__name__)
# What systems put next to files: not the user's own, though some are named like audio.
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")


@dataclass
class AudioFiles:
    """What was found below a folder.

    Attributes:
        files: audio files, in order of name.
        passed_over: number of other files by suffix.
        hidden: number of hidden files and folders, which are passed over as well.
        unreadable: folders that could not be listed, or are empty in place of an audio file, with the reason.
    """

    files: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    unreadable: list[tuple[Path, str]] = field(default_factory=list)


def audio_files(root: Path) -> AudioFiles:
    """The audio files below a folder, behind links too; what is passed over is told once.

    Raises:
        CorpusError: there are none, or two have one name but for the suffix.
    """
    found = AudioFiles()
    _walk(str(root), (), found)
    found.files.sort()
    if not found.files and not found.unreadable:
        raise CorpusError(
            f"folder {readable(str(root))!r} holds no audio ({', '.join(SUFFIXES)}) and no lhotse Shar{_told(found)}"
        )
    if found.passed_over or found.hidden:
        _log.warning("%s: %d audio files%s", readable(str(root)), len(found.files), _told(found))
    return found


def _walk(folder: str, above: tuple[tuple[int, int], ...], found: AudioFiles) -> None:
    """Add what is in a folder; `above` are the folders on the way to it, so that a link to one of them is not a circle."""
    pending = [(folder, above)]
    while pending:
        folder, above = pending.pop()
        try:
            status = os.stat(folder)
            here = (status.st_dev, status.st_ino)
            if here in above:
                continue
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError as error:
            found.unreadable.append((Path(folder), error.strerror or str(error)))
            continue
        if above and not listed and os.path.splitext(folder)[1].lower() in SUFFIXES:
            found.unreadable.append((Path(folder), "it is an empty folder with the name of an audio file"))
        stems: dict[str, str] = {}
        for entry in listed:
            if entry.name.startswith(".") or entry.name in _SYSTEM_FOLDERS:
                found.hidden += 1
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            if is_folder:
                pending.append((entry.path, (*above, here)))
                continue
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() not in SUFFIXES:
                found.passed_over[suffix.lower()] += 1
                continue
            if stem in stems:
                first, second = sorted((stems[stem], entry.name))
                raise CorpusError(
                    f"folder {readable(folder)!r} holds {readable(first)!r} and {readable(second)!r}, but cuts are named by their files "
                    "without the suffix, so both would have one id; keep one of them, or give a table with ids"
                )
            stems[stem] = entry.name
            found.files.append(Path(entry.path))


def _told(found: AudioFiles) -> str:
    total = sum(found.passed_over.values())
    parts = []
    if total:
        kinds = ", ".join(
            f"{count} {readable(suffix) or 'without suffix'}" for suffix, count in found.passed_over.most_common(8)
        )
        parts.append(f"{total} files of other kinds ({kinds}{', ...' if len(found.passed_over) > 8 else ''})")
    if found.hidden:
        parts.append(f"{found.hidden} hidden or of the system")
    return f"; passed over: {' and '.join(parts)}" if parts else ""


def folder_cuts(root: Path, found: AudioFiles, channel: int | None = None) -> Iterator[dict[str, Any] | Unreadable]:
    """Each file as a whole cut, named by its path below `root` without the suffix.

    Args:
        root: the folder.
        found: by `audio_files`.
        channel: the only channel to take; None for the mean of all.
    """
    for folder, why in found.unreadable:
        name = f"{folder.relative_to(root).as_posix()}/"
        yield Unreadable(
            readable(name),
            f"folder {readable(str(folder))!r} cannot be read ({why}), so its audio is not labeled; repair it",
        )
    for file in found.files:
        name = file.relative_to(root).with_suffix("").as_posix()
        recording = file_recording(file, name)
        yield recording if isinstance(recording, Unreadable) else recording_cut(recording, name, channel=channel)
