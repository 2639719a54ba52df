"""The catalog: a store's index in few large files next to its shards, mapped into memory and shared by the processes of a machine."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asrkd.errors import MismatchError, StoreError
from asrkd.files import reason
from asrkd.store.files import Files
from asrkd.store.index import COLUMNS, GROUP_COLUMNS, SHARD, TEXT_COLUMNS, Index, InMemory, add_shards
from asrkd.store.schema import shard_name, unit_of

if TYPE_CHECKING:
    from asrkd.store.reader import Store

FORMAT = "asrkd/catalog-v1"
NAME = "catalog/catalog.json"
TYPES: Mapping[str, Any] = {"shards": SHARD, **GROUP_COLUMNS, **COLUMNS, **TEXT_COLUMNS}
# Another writer may replace the catalog while it is opened.
_ATTEMPTS = 3


class FileCache(Protocol):
    """Keeps files of object stores on a disk of this machine."""

    def open_file(self, key: Any, size: int, fill: Callable[[IO[bytes]], None]) -> IO[bytes]:
        """The file of a key (anything that JSON can say), opened; filled once a machine."""


class Catalog(Index):
    """The index that a store's catalog holds."""

    def __init__(self, files: Files, content: Mapping[str, Any], cache: FileCache | None) -> None:
        """Open the catalog of the description `content`.

        Raises:
            FileNotFoundError: one of its files is gone.
            StoreError: one of its files cannot be read, or is damaged.
        """
        self._files, self._entries, self._cache = files, content["files"], cache
        self._columns: dict[str, NDArray[Any]] = {}
        shards = self._column("shards")
        if zlib.crc32(shards.tobytes()) != self._entries["shards"]["crc32"]:
            raise self._damaged("shards", "its checksum is another")
        if files.is_local:  # nothing is read yet, and all are of one writer whatever another does from now on
            for name in self._entries:
                self._column(name)
        super().__init__(shards, self._column)

    def _column(self, name: str) -> NDArray[Any]:
        if name not in self._columns:
            entry = self._entries[name]
            dtype, size = np.dtype(TYPES[name]), entry["count"] * np.dtype(TYPES[name]).itemsize
            with self._open(name, size) as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    raise self._damaged(name, f"it has {found} bytes instead of {size}")
                empty = np.zeros(0, dtype)
                self._columns[name] = np.memmap(file, dtype, "r").view(np.ndarray) if size else empty
        return self._columns[name]

    def _open(self, name: str, size: int) -> IO[bytes]:
        file = self._entries[name]["file"]
        if self._files.is_local:
            try:
                return open(f"{self._files.filesystem[1]}/{file}", "rb")
            except FileNotFoundError:
                raise
            except OSError as error:
                raise StoreError(
                    f"{file!r} of the store {self._files.root!r} cannot be read: {reason(error)}"
                ) from None
        if self._cache is not None:
            return self._cache.open_file([self._files.root, file], size, lambda out: self._fetch(name, out))
        # Unlinked at once: a copy of this process alone.
        out = tempfile.TemporaryFile()
        self._fetch(name, out)
        return out

    def _fetch(self, name: str, out: IO[bytes]) -> None:
        crc = 0

        def fill(piece: bytes) -> None:
            nonlocal crc
            crc = zlib.crc32(piece, crc)
            out.write(piece)

        self._files.read_pieces(self._entries[name]["file"], fill)
        out.flush()
        if crc != self._entries[name]["crc32"]:
            raise self._damaged(name, "its checksum is another")

    def _damaged(self, name: str, why: str) -> StoreError:
        return StoreError(
            f"{self._entries[name]['file']!r} of the store {self._files.root!r} is damaged: {why}; rebuild the catalog with asrkd store "
            "index, or remove the folder catalog"
        )


def open_catalog(files: Files, identity_fingerprint: str, cache: FileCache | None = None) -> Catalog | None:
    """The catalog of a store, None without one.

    Args:
        identity_fingerprint: of the store.
        cache: for a store on an object store; without it each process fetches a copy of its own.

    Raises:
        StoreError: it cannot be read, or is damaged.
        MismatchError: it is of another store.
    """
    for attempt in range(_ATTEMPTS):
        content = describe(files)
        if content is None:
            return None
        if content["identity"] != identity_fingerprint:
            raise MismatchError(
                f"the catalog of the store {files.root!r} is of another store (another teacher, inventory, front end or codec); make it again "
                "with asrkd store index, or remove the folder catalog"
            )
        try:
            return Catalog(files, content, cache)
        except FileNotFoundError as error:
            if attempt + 1 == _ATTEMPTS:
                raise StoreError(
                    f"the catalog of the store {files.root!r} lacks a file ({error}); rebuild it with asrkd store index, or remove the "
                    "folder catalog"
                ) from None
    return None


def open_index(
    store: Store, columns: Collection[str], cache: FileCache | None = None
) -> tuple[Index, NDArray[np.bool_]]:
    """The index of a store's finished shards, from its catalog as far as it knows them, else from the shards; and (N,) which of its shards to use.

    Args:
        columns: of the utterances, names of `columns_of` the store, that will be asked for.
        cache: see `open_catalog`.

    Raises:
        StoreError: a shard or the catalog cannot be read.
        MismatchError: a shard is of another store, or changed since the catalog was written.
    """
    catalog = open_catalog(store.files, store.identity.fingerprint, cache)
    if catalog and not store.files.is_local and len(catalog.shards) == store.num_units:
        # It knows every planned unit, so nobody has to list an object store. A shard that changed is refused when it is read.
        units, sizes = catalog.shards["unit"].tolist(), {}
    else:
        sizes = {
            unit: file.size
            for file in store.files.scan("shards", ".parquet")
            if (unit := unit_of(file.name)) is not None
        }
        units = sorted(sizes)
    if store.pinned is not None:
        units = sorted(set(store.pinned))
    if catalog:
        refuse_changed(store, catalog, {unit: sizes[unit] for unit in units if unit in sizes})
        places = catalog.find(np.asarray(units, np.int64))
        if (places >= 0).all():
            chosen = np.zeros(len(catalog.shards), np.bool_)
            chosen[places] = True
            return catalog, chosen
    memory = InMemory()
    add_shards(memory, store, units, sizes, list(columns), catalog)
    index = memory.index()
    return index, np.ones(len(index.shards), np.bool_)


def describe(files: Files) -> dict[str, Any] | None:
    """The description of a store's catalog, None without one.

    Raises:
        StoreError: it is damaged, or of another format.
    """
    data = files.read_or_none(NAME)
    if data is None:
        return None
    try:
        content = json.loads(data)
        if content["format"] != FORMAT:
            raise StoreError(
                f"the catalog of the store {files.root!r} has the format {content['format']!r}, but this reader reads {FORMAT!r}; make it "
                "again with asrkd store index"
            )
        for name in dict.fromkeys(["shards", *GROUP_COLUMNS, *COLUMNS, *content["files"]]):
            entry = content["files"][name]
            if not (
                name in TYPES
                and isinstance(entry["file"], str)
                and _is_count(entry["count"])
                and _is_count(entry["crc32"])
            ):
                raise ValueError(f"entry {name!r} is {entry!r}")
        if not isinstance(content["identity"], str):
            raise ValueError("the identity is not a text")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{NAME!r} of the store {files.root!r} is damaged ({type(error).__name__}: {error}); rebuild it with asrkd store index, or "
            "remove the folder catalog"
        ) from None
    found: dict[str, Any] = content
    return found


def describe_or_none(files: Files) -> dict[str, Any] | None:
    """`describe`, None for one that is damaged."""
    try:
        return describe(files)
    except StoreError:
        return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def refuse_changed(store: Store, index: Index, sizes: Mapping[int, int]) -> None:
    """Refuse a catalog of shards that are of another size now.

    Raises:
        MismatchError: naming the first.
    """
    units = np.fromiter(sizes.keys(), np.int64, len(sizes))
    places = index.find(units)
    now = np.fromiter(sizes.values(), np.int64, len(sizes))
    if not len(index.shards):
        return
    changed = units[(places >= 0) & (index.shards["size"][places] != now)]
    if len(changed):
        raise MismatchError(
            f"{shard_name(int(changed.min()))} of {store.root!r} changed since the catalog was written ({len(changed)} shards did), so the "
            "catalog does not hold for it; run asrkd store index"
        )
