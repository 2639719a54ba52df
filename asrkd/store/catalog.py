"""The catalog: a store's index in few large files next to its shards, mapped into memory and shared by the processes of a machine."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import uuid
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asrkd import fingerprint
from asrkd.errors import MismatchError, StoreError
from asrkd.files import reason, writer
from asrkd.store.files import Files
from asrkd.store.index import COLUMNS, GROUP_COLUMNS, SHARD, Index, InMemory, add_shards
from asrkd.store.schema import shard_name, unit_of

if TYPE_CHECKING:
    from asrkd.store.reader import Store

FORMAT = "asrkd/catalog-v1"
NAME = "catalog/catalog.json"
_TYPES: Mapping[str, Any] = {"shards": SHARD, **GROUP_COLUMNS, **COLUMNS}
# Another writer may replace the catalog while it is opened.
_ATTEMPTS = 3
# Files of a writer that was killed are removed by the next one after this many seconds.
_ABANDONED_SECONDS = 86400.0


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
            for name in _TYPES:
                self._column(name)
        super().__init__(shards, self._column)

    def _column(self, name: str) -> NDArray[Any]:
        if name not in self._columns:
            entry = self._entries[name]
            dtype, size = np.dtype(_TYPES[name]), entry["count"] * np.dtype(_TYPES[name]).itemsize
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
            f"{self._entries[name]['file']!r} of the store {self._files.root!r} is damaged: {why}; make the catalog anew with asrkd store "
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
        content = _describe(files)
        if content is None:
            return None
        if content["identity"] != identity_fingerprint:
            raise MismatchError(
                f"the catalog of the store {files.root!r} is of another store (another teacher, inventory, front end or codec); make it anew "
                "with asrkd store index, or remove the folder catalog"
            )
        try:
            return Catalog(files, content, cache)
        except FileNotFoundError as error:
            if attempt + 1 == _ATTEMPTS:
                raise StoreError(
                    f"the catalog of the store {files.root!r} lacks a file ({error}); make it anew with asrkd store index, or remove the "
                    "folder catalog"
                ) from None
    return None


def open_index(
    store: Store, columns: Collection[str], cache: FileCache | None = None
) -> tuple[Index, NDArray[np.bool_]]:
    """The index of a store's finished shards, from its catalog as far as it knows them, else from the shards; and (N,) which of its shards to use.

    Args:
        columns: of the utterances, names of `COLUMNS`, that will be asked for.
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
            for file in store.files.list("shards", ".parquet")
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


def _describe(files: Files) -> dict[str, Any] | None:
    if not files.exists(NAME):
        return None
    try:
        content = json.loads(files.read(NAME))
        if content["format"] != FORMAT:
            raise StoreError(
                f"the catalog of the store {files.root!r} has the format {content['format']!r}, but this reader reads {FORMAT!r}; make it "
                "anew with asrkd store index"
            )
        for name in _TYPES:
            entry = content["files"][name]
            if not (isinstance(entry["file"], str) and _is_count(entry["count"]) and _is_count(entry["crc32"])):
                raise ValueError(f"entry {name!r} is {entry!r}")
        if not isinstance(content["identity"], str):
            raise ValueError("the identity is not a text")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{NAME!r} of the store {files.root!r} is damaged ({type(error).__name__}: {error}); make it anew with asrkd store index, or "
            "remove the folder catalog"
        ) from None
    found: dict[str, Any] = content
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


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
        known = None  # what is damaged is made anew
    before = _describe_or_none(files)
    sizes = {unit: file.size for file in files.list("shards", ".parquet") if (unit := unit_of(file.name)) is not None}
    footers = {int(shard["unit"]): shard["footer"].decode() for shard in known.shards} if known else {}

    def is_changed(unit: int) -> bool:
        return store.footer_fingerprint(unit) != footers[unit] if changed is None else unit in changed

    with _Writing(files) as writing:
        add_shards(writing, store, sorted(sizes), sizes, tuple(COLUMNS), known, is_changed)
        entries = writing.publish()
    replaced = _describe_or_none(files)
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
    content = _describe_or_none(store.files)
    return content is not None and content["files"]["shards"]["count"] == store.num_units


class _Writing:
    """The columns as temporary files, which get their names when all are whole."""

    def __init__(self, files: Files) -> None:
        self._files, self._folder = files, Path(files.scratch("catalog"))
        _remove_abandoned(self._folder)
        self._counts, self._sums = dict.fromkeys(_TYPES, 0), dict.fromkeys(_TYPES, 0)
        self._paths: dict[str, Path] = {}
        self._streams: dict[str, IO[bytes]] = {}

    def __enter__(self) -> _Writing:
        try:
            for name in _TYPES:
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
        data = np.ascontiguousarray(values, _TYPES[name]).tobytes()
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
        sums = [[name, self._counts[name], self._sums[name]] for name in _TYPES]
        generation = fingerprint.of_json(sums)[:16]
        entries = {}
        for name, count, crc in ((name, self._counts[name], self._sums[name]) for name in _TYPES):
            file = f"catalog/{generation}.{name}"
            self._files.place(self._paths[name], file)
            entries[name] = {"file": file, "count": count, "crc32": crc}
        return entries

    def _unwritten(self, error: OSError) -> StoreError:
        return StoreError(
            f"the catalog of the store {self._files.root!r} cannot be written: {reason(error)}. The store is whole without it; run asrkd store "
            "index to make it"
        )


def _describe_or_none(files: Files) -> dict[str, Any] | None:
    try:
        return _describe(files)
    except StoreError:
        return None


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
            except StoreError:  # another writer did
                continue


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of writers of this machine that are dead."""
    for path in folder.glob(f".catalog-*.{socket.gethostname()}-*.tmp"):
        pid = path.name.split("-")[-2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except (ValueError, PermissionError):
            pass


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
