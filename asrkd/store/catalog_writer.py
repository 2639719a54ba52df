"""Writes the catalog of a store: killed, it leaves the earlier one or the new one."""

from __future__ import annotations

import json
import os
import socket
import uuid
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from asrkd import fingerprint
from asrkd.errors import MismatchError, StoreError
from asrkd.files import reason, writer
from asrkd.store.catalog import FORMAT, NAME, TYPES, Catalog, describe_or_none, open_catalog
from asrkd.store.files import Files
from asrkd.store.index import GROUP_COLUMNS, Index, Sink, add_shards, columns_of
from asrkd.store.reader import Store
from asrkd.store.schema import unit_of

# Files of a writer that was killed are removed by the next one after this many seconds.
_ABANDONED_SECONDS = 86400.0


def write_catalog(store: Store, *, changed: Collection[int] | None = None) -> Index:
    """Write the catalog of a store's finished shards, in memory that does not grow with them, and put it in the place of an earlier one.

    Shards that the earlier one knows are not read again. Killed, it leaves the earlier one. The bytes depend on the shards alone.

    Args:
        changed: units that were written since the earlier catalog, besides those of another size; None compares all footers with it.

    Raises:
        StoreError: a shard cannot be read, or a file cannot be written.
        MismatchError: a shard is of another store.
    """
    files = store.files
    try:
        known = open_catalog(files, store.identity.fingerprint)
    except (StoreError, MismatchError):
        known = None  # what is damaged is made again
    sizes = {unit: file.size for file in files.scan("shards", ".parquet") if (unit := unit_of(file.name)) is not None}
    footers = {int(shard["unit"]): shard["footer"].decode() for shard in known.shards} if known else {}

    def is_changed(unit: int) -> bool:
        return store.footer_fingerprint(unit) != footers[unit] if changed is None else unit in changed

    columns = tuple(columns_of(store.identity))
    return publish_catalog(
        store, lambda sink: add_shards(sink, store, sorted(sizes), sizes, columns, known, is_changed)
    )


def publish_catalog(store: Store, fill: Callable[[Sink], None]) -> Index:
    """Write a catalog that `fill` fills, shard after shard in the order of units, and put it in the place of an earlier one.

    Raises:
        StoreError: a file cannot be written.
    """
    files = store.files
    before = describe_or_none(files)
    with _Writing(files, ["shards", *GROUP_COLUMNS, *columns_of(store.identity)]) as writing:
        fill(writing)
        entries = writing.publish()
    replaced = describe_or_none(files)
    content = {"format": FORMAT, "identity": store.identity.fingerprint, "files": entries}
    files.write(NAME, (json.dumps(content, indent=1) + "\n").encode())
    _remove_old(files, entries, before, replaced)
    return Catalog(files, content, None)


def update_catalog(store: Store, changed: Collection[int]) -> None:
    """Let the catalog of a store follow the units that were written; a store without one stays without.

    Raises:
        StoreError, MismatchError: as `write_catalog`.
    """
    if store.files.exists(NAME):
        write_catalog(store, changed=changed)


def knows_all(store: Store) -> bool:
    """Whether a store's catalog knows every planned unit."""
    content = describe_or_none(store.files)
    return content is not None and content["files"]["shards"]["count"] == store.num_units


class _Writing:
    """The columns as temporary files, which get their names when all are whole."""

    def __init__(self, files: Files, names: Sequence[str]) -> None:
        """`names`: of the columns, of `TYPES`."""
        self._files, self._folder = files, Path(files.scratch("catalog"))
        _remove_abandoned(self._folder)
        self._counts, self._sums = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        self._paths: dict[str, Path] = {}
        self._streams: dict[str, IO[bytes]] = {}

    def __enter__(self) -> _Writing:
        try:
            for name in self._counts:
                path = self._folder / f".catalog-{name}.{writer(os.getpid())}-{uuid.uuid4().hex[:8]}.tmp"
                self._streams[name], self._paths[name] = open(path, "wb"), path
        except OSError as error:
            self.__exit__(None, None, None)
            raise self._unwritten(error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams.values():
            try:
                stream.close()
            except OSError:  # a full disk, which was told already
                pass
        for path in self._paths.values():
            path.unlink(missing_ok=True)

    def append(self, name: str, values: NDArray[Any]) -> None:
        data = np.ascontiguousarray(values, TYPES[name]).tobytes()
        self._sums[name] = zlib.crc32(data, self._sums[name])
        self._counts[name] += len(values)
        try:
            self._streams[name].write(data)
        except OSError as error:
            raise self._unwritten(error) from None

    def publish(self) -> dict[str, dict[str, Any]]:
        """Give the files their names; returns their entries in the catalog's description."""
        try:
            for stream in self._streams.values():
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise self._unwritten(error) from None
        sums = [[name, self._counts[name], self._sums[name]] for name in self._counts]
        generation = fingerprint.of_json(sums)[:16]
        entries = {}
        for name, count, crc in ((name, self._counts[name], self._sums[name]) for name in self._counts):
            file = f"catalog/{generation}.{name}"
            self._files.place(self._paths[name], file)
            entries[name] = {"file": file, "count": count, "crc32": crc}
        return entries

    def _unwritten(self, error: OSError) -> StoreError:
        return StoreError(
            f"the catalog of the store {self._files.root!r} cannot be written: {reason(error)}. The store is whole without it; run asrkd store "
            "index to make it"
        )


def _remove_old(files: Files, entries: Mapping[str, Mapping[str, Any]], *earlier: Mapping[str, Any] | None) -> None:
    """Remove the files of the catalogs that were replaced, and those that writers left that were killed long ago."""
    kept = {entry["file"] for entry in entries.values()}
    old = {entry["file"] for content in earlier if content for entry in content["files"].values()}
    there = {f"catalog/{file.name}": file for file in files.list("catalog", "")}
    newest = max((there[name].modified for name in kept if name in there), default=0.0)
    for name, file in there.items():
        if name not in kept and name != NAME and (name in old or file.modified < newest - _ABANDONED_SECONDS):
            try:
                files.remove(name)
            except StoreError:  # the catalog is whole, whatever files are left
                continue


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of writers of this machine that are dead."""
    for path in folder.glob(f".catalog*.{socket.gethostname()}-*.tmp"):
        pid = path.name.split("-")[-2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except (ValueError, PermissionError):
            pass
