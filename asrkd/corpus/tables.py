"""A table of utterances as a corpus: `.tsv` or `.csv` with a header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from asrkd.corpus.audio import Unreadable, wrong_times
from asrkd.corpus.channels import recording_cut
from asrkd.corpus.table_rows import table_rows
from asrkd.corpus.utterances import file_recording
from asrkd.errors import CorpusError

COLUMNS = ("audio", "id", "text", "speaker", "start", "duration", "channel")
# Not all that Python's float takes: 1_000 and digits of other scripts are mistakes here.
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)


def table_cuts(path: Path, channel: int | None = None) -> Iterator[dict[str, Any] | Unreadable]:
    """Each row as a cut; `audio` is relative to the table.

    Args:
        path: the table.
        channel: the only channel to take where a row names none; None for the mean of all.

    Raises:
        CorpusError: the table is broken, or a start, duration or channel is not a number; the message names the line.
    """
    for number, row in table_rows(path, COLUMNS):
        line = f"table {str(path)!r} line {number}"
        if not row["audio"].strip():
            name = row.get("id") or f"{path.stem}-line-{number}"
            yield Unreadable(name, f"{line} names no audio; name a file or leave the row out")
            continue
        file = path.parent / row["audio"]
        name = row.get("id") or Path(row["audio"]).with_suffix("").as_posix()
        start = _seconds(row, "start", line)
        duration = _seconds(row, "duration", line)
        chosen = _channel(row, line)
        recording = file_recording(file, name)
        if isinstance(recording, Unreadable):
            yield recording
            continue
        begin = start or 0.0
        length = recording["duration"] - begin if duration is None else duration
        wrong = wrong_times(begin, length, recording["duration"])
        if duration is None and wrong and begin >= recording["duration"]:
            wrong = f"starts at {begin:g} s, but its recording is {recording['duration']:.3f} s long; correct its times"
        if wrong:
            yield Unreadable(name, f"{line} {wrong}")
            continue
        # Times that were rounded may end a fraction of a millisecond behind the recording.
        length = min(length, recording["duration"] - begin)
        cut = recording_cut(
            recording, name, start=begin, duration=length, channel=channel if chosen is None else chosen
        )
        if isinstance(cut, Unreadable):
            yield Unreadable(name, f"{line}: {cut.reason}")
            continue
        facts = {fact: row[fact] for fact in ("text", "speaker") if row.get(fact)}
        if facts:
            span = {"id": name, "recording_id": name, "start": 0.0, "duration": length, "channel": cut["channel"]}
            cut["supervisions"] = [span | facts]
        yield cut


def _seconds(row: Mapping[str, str], column: str, line: str) -> float | None:
    value = row.get(column, "").strip()
    if not value:
        return None
    if not _NUMBER.fullmatch(value):
        hint = " with a point" if "," in value else ""
        raise CorpusError(f"{line}: {column} is {value!r}, but must be a number of seconds{hint}, such as 1.5")
    return float(value)


def _channel(row: Mapping[str, str], line: str) -> int | None:
    value = row.get("channel", "").strip()
    if value in ("", "mean"):
        return None
    if not re.fullmatch(r"\d+", value, re.ASCII):
        raise CorpusError(
            f"{line}: channel is {value!r}, but must be a number from 0, or 'mean'; leave it empty for the mean"
        )
    return int(value)
