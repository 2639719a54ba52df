"""A table of Common Voice as a corpus: `path`, `sentence`, `client_id` and others, with the audio in `clips` next to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asrkd import text
from asrkd.corpus.audio import Unreadable
from asrkd.corpus.table_rows import table_rows
from asrkd.corpus.utterances import CorpusUtterance, cut_json, file_recording
from asrkd.errors import CorpusError

_NEEDED = ("path", "sentence")


def is_common_voice(path: Path) -> bool:
    """Whether a file is a table of Common Voice, by its header."""
    return path.suffix == ".tsv" and {*_NEEDED} <= {*_header(path)}


def common_voice_cuts(table: Path) -> Iterator[dict[str, Any] | Unreadable]:
    """The clips of a table.

    Raises:
        CorpusError: the table is broken; the message names the line.
    """
    header = _header(table)
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise CorpusError(
            f"table {str(table)!r} has no column {missing[0]!r}, which Common Voice has; give it as table:{table}"
        )
    for number, row in table_rows(table, header, needs="path"):
        line, path = f"table {str(table)!r} line {number}", row.pop("path")
        if not path.strip():
            yield Unreadable(f"{table.stem}-line-{number}", f"{line} names no audio; name a file or leave the row out")
            continue
        said = CorpusUtterance(
            path.rpartition(".")[0] or path,
            text=row.pop("sentence"),
            speaker=row.pop("client_id", None) or None,
            language=row.pop("locale", None) or None,
            gender=row.pop("gender", None) or None,
            custom={name: value for name, value in row.items() if value} or None,
        )
        file = table.parent / "clips" / path
        if not file.exists() and not file.suffix:
            file = file.with_suffix(".mp3")  # the first releases
        yield cut_json(said, file_recording(file, said.id), line)


def _header(path: Path) -> list[str]:
    try:
        line = next(text.stream(path, what="table"), (0, ""))[1]
    except CorpusError:
        return []
    return [name.strip().lower() for name in line.split("\t")]
