from __future__ import annotations

from pathlib import Path

import pytest

from asrkd.errors import StoreError
from asrkd.store.entries import read_entries, write_entries
from asrkd.store.files import Files


def test_entries_that_are_damaged_are_refused_with_the_file(tmp_path: Path) -> None:
    assert read_entries(Files(str(tmp_path)), "quarantine/part-00000.jsonl", "id") == []
    for line, message in (
        (b'{"id": "a"', "line 1 is not JSON"),
        (b'{"id": "\xe9"}', "line 1 is not UTF-8"),
        (b'{"reason": "b"}', "without id"),
        (b"[1]", "without id"),
        (b'{"id": 7}', "without id"),
    ):
        (tmp_path / "part.jsonl").write_bytes(line + b"\n")
        with pytest.raises(StoreError, match=f"'part.jsonl' of the store .*{message}"):
            read_entries(Files(str(tmp_path)), "part.jsonl", "id")


def test_what_is_not_unicode_is_an_escape(tmp_path: Path) -> None:
    write_entries(Files(str(tmp_path)), "part.jsonl", [{"id": "a", "reason": "caf\udce9 \u2028"}])
    assert (tmp_path / "part.jsonl").read_bytes() == '{"id": "a", "reason": "caf\\udce9 \u2028"}\n'.encode()
    assert read_entries(Files(str(tmp_path)), "part.jsonl", "id") == [{"id": "a", "reason": "caf\udce9 \u2028"}]
