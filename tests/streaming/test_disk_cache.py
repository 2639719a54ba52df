from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from asrkd.errors import ConfigError
from asrkd.streaming import disk_cache
from asrkd.streaming.disk_cache import DiskCache


class _Origin:
    """Counts how often a table is made."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def get(self, cache: DiskCache, key: int) -> None:
        def make() -> pa.Table:
            self.made.append(key)
            return pa.table({"value": [key] * 10_000})

        assert cache.table(["store", key], make)["value"].to_pylist() == [key] * 10_000


def test_what_was_read_survives_a_restart(tmp_path: Path) -> None:
    origin = _Origin()
    for _ in range(2):
        cache = DiskCache(tmp_path / "cache", 1.0)
        for key in (1, 2, 1):
            origin.get(cache, key)
    assert origin.made == [1, 2]


def test_the_folder_stays_within_its_bound_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    origin, cache = _Origin(), DiskCache(tmp_path, 0.001)  # some 12 tables of 80 kB
    for key in range(60):
        origin.get(cache, key)
        origin.get(cache, 0)
        os.utime(max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1.1e6
    assert origin.made.count(0) == 1
    assert set(origin.made) == set(range(60))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_file_is_read_again_from_its_origin(tmp_path: Path, damage: str) -> None:
    origin, cache = _Origin(), DiskCache(tmp_path, 1.0)
    origin.get(cache, 1)
    [path] = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
    origin.get(cache, 1)
    origin.get(cache, 1)
    assert origin.made == [1, 1]


def test_a_full_disk_ends_the_writing_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    origin, cache = _Origin(), DiskCache(tmp_path, 1.0)
    origin.get(cache, 1)
    writing = open

    def full(path: Any, mode: str = "r", *others: Any) -> Any:
        if "w" in mode and str(path).startswith(str(tmp_path)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return writing(path, mode, *others)

    monkeypatch.setattr(disk_cache, "open", full, raising=False)
    with caplog.at_level(logging.WARNING):
        for key in (2, 3, 2, 1):
            origin.get(cache, key)
    assert origin.made == [1, 2, 3, 2]
    assert [record.message for record in caplog.records] == [
        f"the disk cache {tmp_path} takes no more (the disk is full); the rest is read from its origin"
    ]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_no_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 GB"):
        DiskCache(tmp_path, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        DiskCache(tmp_path / "file" / "cache", 1)
