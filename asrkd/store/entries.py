"""JSON Lines of a store that name utterances: the quarantine and the deletion lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from asrkd import text
from asrkd.errors import StoreError
from asrkd.store.files import Files


def read_entries(files: Files, name: str, *fields: str) -> list[dict[str, str]]:
    """The entries of a file, each with these fields; none where there is no such file.

    Raises:
        StoreError: a line is not JSON, or lacks a field.
    """
    data = files.read_or_none(name)
    if data is None:
        return []
    entries = text.json_lines(data, what=f"{name!r} of the store {files.root!r}", error=StoreError)
    for entry in entries:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(field), str) for field in fields):
            raise StoreError(
                f"{name!r} of the store {files.root!r} holds {json.dumps(entry)[:80]!r} without {', '.join(fields)}"
            )
    return entries


def write_entries(files: Files, name: str, entries: Iterable[Mapping[str, str]]) -> None:
    """Replace a file.

    Raises:
        StoreError: it cannot be written.
    """
    lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    # What is not Unicode, such as the name of a file in a reason, becomes an escape of JSON.
    files.write(name, "".join(lines).encode("utf-8", "backslashreplace"))
