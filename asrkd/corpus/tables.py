"""A table of utterances as a corpus: `.tsv` or `.csv` with a header."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lhotse import MonoCut, SupervisionSegment
from lhotse.cut import Cut

from asrkd.corpus.audio import Unreadable, whole_recording
from asrkd.corpus.table_rows import table_rows
from asrkd.errors import CorpusError

COLUMNS = ("audio", "id", "text", "speaker", "start", "duration")


def table_cuts(path: Path) -> Iterator[Cut | Unreadable]:
    """Each row as a cut; `audio` is relative to the table."""
    for number, row in table_rows(path, COLUMNS):
        if not row["audio"].strip():
            name = row.get("id") or f"{path.stem}-line-{number}"
            yield Unreadable(
                name, f"table {str(path)!r} line {number} names no audio; name a file or leave the row out"
            )
            continue
        file = path.parent / row["audio"]
        name = row.get("id") or Path(row["audio"]).with_suffix("").as_posix()
        recording = whole_recording(file, name)
        if isinstance(recording, Unreadable):
            yield recording
            continue
        try:
            start = float(row.get("start") or 0.0)
            duration = float(row.get("duration") or recording.duration - start)
        except ValueError as error:
            raise CorpusError(f"table {str(path)!r} line {number}: {error}; start and duration are seconds") from None
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
