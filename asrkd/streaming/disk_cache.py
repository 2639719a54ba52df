"""A bounded cache of row groups and catalogs on a local disk, for stores on an object store."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from asrkd import fingerprint
from asrkd.errors import ConfigError, StoreError
from asrkd.files import publish, reason

_log = logging.getLogger(__name__)
_SUFFIX = ".arrow"
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Room is made for this share of the cache at a time, so that the folder is not listed for every file.
_SHARE = 0.1


class DiskCache:
    """Tables in files of one folder, the least recently used removed beyond `gigabytes`.

    The files stay behind for the next run. Any number of processes of one machine share the folder. A file that is damaged or
    was cut off is read again from its origin, and a full disk ends the writing (with one warning), not the training.

    Raises:
        ConfigError: no room is given, or the folder cannot be made.
    """

    def __init__(self, folder: str | Path, gigabytes: float) -> None:
        if gigabytes <= 0:
            raise ConfigError(f"the disk cache {str(folder)!r} is given {gigabytes} GB, but needs more than 0")
        self.folder = Path(folder).absolute()
        self._max_bytes = int(gigabytes * 1e9)
        # What this process has written since it last looked at the folder; at first unknown.
        self._written = self._max_bytes
        self._full = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the disk cache {str(folder)!r} cannot be made: {error.strerror}; give another folder"
            ) from None

    def table(self, key: Any, make: Callable[[], pa.Table]) -> pa.Table:
        """The table of a key (anything that JSON can say), from the disk or made again."""
        path = self.folder / f"{fingerprint.of_json(key)}{_SUFFIX}"
        found = _load(path)
        if found is not None:
            return found
        table = make()
        if not self._full:
            self._save(path, table)
        return table

    def open_file(self, key: Any, size: int, fill: Callable[[IO[bytes]], None]) -> IO[bytes]:
        """The file of a key, opened; filled by one process of the machine while others wait for it.

        It may be removed for room later, which leaves it to those that have it open.

        Args:
            key: anything that JSON can say.
            size: of the file in bytes.

        Raises:
            StoreError: the disk is full, or cannot be written to.
        """
        path = self.folder / f"{fingerprint.of_json(key)}.file"
        try:
            with open(self.folder / f"{path.stem}.lock", "wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists() or path.stat().st_size != size:
                    self._make_room(size)
                    publish(path, fill, os.replace)
                    self._written += size
                os.utime(path)
                return open(path, "rb")
        except OSError as error:
            raise StoreError(
                f"the disk cache {str(self.folder)!r} cannot take a file of {size / 1e6:.0f} MB: {reason(error)}"
            ) from None

    def _save(self, path: Path, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        data = sink.getvalue()
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            self._make_room(data.size)
            with open(temporary, "wb") as stream:
                stream.write(zlib.crc32(data).to_bytes(8, "little"))
                stream.write(data)
            os.replace(temporary, path)
            self._written += data.size
        except OSError as error:
            temporary.unlink(missing_ok=True)
            self._full = True
            reason = "the disk is full" if error.errno in _FULL else str(error)
            _log.warning("the disk cache %s takes no more (%s); the rest is read from its origin", self.folder, reason)

    def _make_room(self, size: int) -> None:
        """Remove what was not used for longest once this process may have filled its share."""
        if self._written + size <= _SHARE * self._max_bytes:
            return
        known = []
        for entry in os.scandir(self.folder):
            try:
                # Leftovers of a process that was killed while it wrote count, too.
                known.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
            except FileNotFoundError:
                continue
        total = sum(one[1] for one in known) + size
        for _, one, path in sorted(known):
            if total <= (1.0 - _SHARE) * self._max_bytes:
                break
            Path(path).unlink(missing_ok=True)
            total -= one
        self._written = 0


def _load(path: Path) -> pa.Table | None:
    try:
        data = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    if len(data) < 8 or zlib.crc32(memoryview(data)[8:]) != int.from_bytes(data[:8], "little"):
        return None
    return pa.ipc.open_file(pa.py_buffer(data).slice(8)).read_all()
