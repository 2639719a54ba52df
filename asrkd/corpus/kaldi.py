"""A Kaldi data folder as a corpus: `wav.scp`, and `segments`, `text`, `utt2spk`, `utt2lang` and `utt2gender` (or `spk2gender`) where they are there.

Kaldi wants its files sorted by key. Those that are get read side by side; of one that is not, all lines are held. A command in
`wav.scp` is refused: nothing that a corpus names is ever run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from asrkd import text
from asrkd.corpus.audio import Unreadable
from asrkd.corpus.places import inside, placed_recording
from asrkd.corpus.sources import absolute_path
from asrkd.corpus.utterances import CorpusUtterance, cut_json, file_recording
from asrkd.errors import CorpusError

_ARCHIVED = re.compile(r"(?P<file>.+):(?P<offset>\d+)")
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def is_kaldi(folder: Path) -> bool:
    """Whether a folder is a Kaldi data folder."""
    return (folder / "wav.scp").is_file()


def kaldi_cuts(folder: Path) -> Iterator[dict[str, Any] | Unreadable]:
    """The utterances of `segments`, or of `wav.scp` where there is none.

    Raises:
        CorpusError: `wav.scp` holds a command, or a file does not have the form that Kaldi gives it; the message names the line.
    """
    recordings = _KaldiTable(folder / "wav.scp")
    facts = {name: _KaldiTable(folder / file) for name, file in _FACTS.items() if (folder / file).is_file()}
    by_speaker = folder / "spk2gender"
    genders = _KaldiTable(by_speaker) if by_speaker.is_file() and "gender" not in facts else None
    opener = _Opener(folder / "wav.scp")
    for said, recording_id, line in _spoken(folder):
        value = recordings.get(recording_id)
        if value is None:
            yield Unreadable(
                said.id, f"{line} names the recording {recording_id!r}, which wav.scp does not have; add it"
            )
            continue
        known = {name: table.get(said.id) for name, table in facts.items()}
        speaker, gender = known.get("speaker"), known.get("gender")
        if genders and speaker:
            gender = genders.get(speaker)
        said = replace(said, text=known.get("text"), speaker=speaker, language=known.get("language"), gender=gender)
        yield cut_json(said, opener.recording(recording_id, value), line)


# By a field of an utterance: its file. `text` may hold nothing after the id.
_FACTS = {"text": "text", "speaker": "utt2spk", "language": "utt2lang", "gender": "utt2gender"}


def _spoken(folder: Path) -> Iterator[tuple[CorpusUtterance, str, str]]:
    """(utterance with its times, its recording, its line as a reason names it)."""
    path = folder / "segments"
    if not path.is_file():
        path = folder / "wav.scp"
        for number, key, _ in _entries(path):
            yield CorpusUtterance(key), key, f"{str(path)!r} line {number}"
        return
    for number, key, value in _entries(path):
        line, fields = f"{str(path)!r} line {number}", text.words(value)
        if len(fields) not in (3, 4):
            raise CorpusError(
                f"{line} has {len(fields) + 1} fields, but a segment is UTTERANCE RECORDING START END, and at most a channel; correct it"
            )
        start, end = (_seconds(field, line) for field in fields[1:3])
        channel = None
        if len(fields) == 4:
            if not re.fullmatch(r"\d+", fields[3], re.ASCII):
                raise CorpusError(f"{line}: channel is {fields[3]!r}, but must be a number from 0")
            channel = int(fields[3])
        # An end of -1 is that of the recording.
        yield (
            CorpusUtterance(key, start, None if end == -1 else round(end - start, 9), channel=channel),
            fields[0],
            line,
        )


def _seconds(value: str, line: str) -> float:
    if not _NUMBER.fullmatch(value):
        raise CorpusError(f"{line}: {value!r} is not a number of seconds, such as 1.5; correct it")
    return float(value)


def _entries(path: Path) -> Iterator[tuple[int, str, str]]:
    """(number, key, rest) of each line."""
    for number, line in text.numbered_lines(path, what="Kaldi file"):
        key, _, rest = line.strip(" \t\r").replace("\t", " ").partition(" ")
        yield number, key, rest.strip(" ")


class _KaldiTable:
    """Values by key, for keys that are mostly asked for in order."""

    def __init__(self, path: Path) -> None:
        """Look through a file once.

        Raises:
            CorpusError: a key occurs twice, or a line of `wav.scp` is a command or names nothing.
        """
        self._path = path
        self._held = None if self._look_through() else self._all()
        self._lines = _entries(path)
        self._line: tuple[int, str, str] | None = next(self._lines, None)
        self._last = ""

    def get(self, key: str) -> str | None:
        """The value of a key; None without one."""
        if self._held is None and key < self._last:
            self._held = self._all()
        if self._held is not None:
            return self._held.get(key)
        self._last = key
        while self._line is not None and self._line[1] < key:
            self._line = next(self._lines, None)
        return self._line[2] if self._line is not None and self._line[1] == key else None

    def _look_through(self) -> bool:
        """Whether the keys are sorted."""
        last, is_sorted = "", True
        for number, key, value in _entries(self._path):
            if self._path.name == "wav.scp":
                self._check_source(number, value)
            if key == last:
                raise self._repeated(number, key)
            is_sorted &= key > last
            last = key
        return is_sorted

    def _all(self) -> dict[str, str]:
        held: dict[str, str] = {}
        for number, key, value in _entries(self._path):
            if key in held:
                raise self._repeated(number, key)
            held[key] = value
        return held

    def _repeated(self, number: int, key: str) -> CorpusError:
        return CorpusError(
            f"{str(self._path)!r} line {number}: {key!r} is there twice, so one would be lost; take one away"
        )

    def _check_source(self, number: int, value: str) -> None:
        what = f"{str(self._path)!r} line {number}"
        if value.endswith("|") or value.startswith("|"):
            raise CorpusError(
                f"{what}: the audio is the output of the command {value!r}, and asrkd runs no command of a corpus; write the audio to files "
                "(Kaldi: wav-copy scp:wav.scp ark,scp:wav.ark,new.scp) and name these"
            )
        if not value or value == "-":
            raise CorpusError(f"{what} names no audio file; name one after the id")


class _Opener:
    """Recordings by the values of `wav.scp`; the last one is kept, as its segments follow each other."""

    def __init__(self, scp: Path) -> None:
        self._scp = scp
        self._last: tuple[str, dict[str, Any] | Unreadable] | None = None

    def recording(self, name: str, value: str) -> dict[str, Any] | Unreadable:
        if self._last is None or self._last[0] != name:
            self._last = name, self._open(name, value)
        return self._last[1]

    def _open(self, name: str, value: str) -> dict[str, Any] | Unreadable:
        archived = _ARCHIVED.fullmatch(value)
        if archived and not os.path.exists(absolute_path(value, self._scp)):
            return archived_recording(name, absolute_path(archived["file"], self._scp), int(archived["offset"]))
        return file_recording(absolute_path(value, self._scp), name)


def archived_recording(name: str, file: str, offset: int) -> dict[str, Any] | Unreadable:
    """The recording that begins at a byte of an archive: a WAV as Kaldi writes it, or any audio as kaldiio does (`AUDIO`, its length)."""
    what = f"{file!r} at byte {offset}"
    try:
        with open(file, "rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(offset)
            head = stream.read(16)
            if head[:4] == b"RIFF":
                size = 8 + int.from_bytes(head[4:8], "little")
                if size > end - offset:
                    return Unreadable(
                        name,
                        f"{what} holds a WAV that goes beyond the end of the file; it was cut off, so make it again",
                    )
            elif head[:5] == b"AUDIO" and 1 <= head[5] <= 8 and len(head) >= 6 + head[5]:
                size = int.from_bytes(head[6 : 6 + head[5]], "little")
                offset += 6 + head[5]
                if size > end - offset:
                    return Unreadable(
                        name,
                        f"{what} holds audio that goes beyond the end of the file; it was cut off, so make it again",
                    )
            elif offset >= end:
                return Unreadable(name, f"{what} holds nothing: the file has {end} bytes; make wav.scp again")
            else:
                return Unreadable(
                    name, f"{what} holds no audio (neither a WAV nor what kaldiio writes); make wav.scp again"
                )
            return placed_recording(name, inside(file, offset, size), stream, what)
    except OSError as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"
        return Unreadable(name, f"archive {file!r} {why}; restore it")
