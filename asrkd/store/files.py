"""Files of a store: complete or not at all, on a local disk or an object store (`pyarrow.fs`)."""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import fs

from asrkd.errors import AsrkdError, StoreError
from asrkd.files import check_folder, publish, reason, writer
from asrkd.store import conditional
from asrkd.store.remote import check_local, open_remote

T = TypeVar("T")
# Seconds before the second, third and fourth attempt.
_WAITS = (0.1, 0.4, 1.6)
# Seconds after which a server that does not answer is not asked again.
_PATIENCE = 10.0


def filesystem(root: str) -> tuple[fs.FileSystem, str]:
    """The filesystem and path of a store's root: a local path, or a URI such as `s3://bucket/prefix`.

    Raises:
        StoreError: the URI cannot be opened.
    """
    if "://" not in root:
        check_local(root)
        return fs.LocalFileSystem(), str(Path(root).absolute())
    return _remote(root)


def is_local(root: str) -> bool:
    """Whether a store is on a local (or mounted) disk rather than an object store."""
    return isinstance(filesystem(root)[0], fs.LocalFileSystem)


# A client of an object store keeps its connections: one for each root, not for each file.
@functools.lru_cache(maxsize=32)
def _remote(root: str) -> tuple[fs.FileSystem, str]:
    return open_remote(root)


def attempts(root: str, work: Callable[[], T]) -> T:
    """The result of reading; on an object store it is tried again after a failure that may pass, such as an answer cut off.

    (The S3 client tries again by itself when the server says that it is busy, but not when a body ends early.)
    """
    began = time.monotonic()
    for wait in () if is_local(root) else _WAITS:
        try:
            return _asked(work)
        except FileNotFoundError:
            raise
        except OSError as error:
            if time.monotonic() - began > _PATIENCE or re.search(
                "ACCESS_DENIED|INVALID_ACCESS|SIGNATURE|NO_SUCH_BUCKET", str(error)
            ):
                raise
            time.sleep(wait)
    return _asked(work)


def _asked(work: Callable[[], T]) -> T:
    """The result of asking a filesystem. Those of fsspec (`hf://`) raise the kinds of errors of the libraries below them."""
    try:
        return work()
    except (AsrkdError, OSError, pa.ArrowException):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {' '.join(str(error).split())}") from None


def write_atomic(root: str, name: str, data: bytes) -> None:
    """Write a file of a store: a temporary name, fsync and rename on a local disk; one put on an object store.

    Raises:
        StoreError: the file cannot be written; nothing is left under its name.
    """
    system, base = filesystem(root)
    path = f"{base}/{name}"
    try:
        if isinstance(system, fs.LocalFileSystem):
            publish(Path(path), data, os.replace)
            return

        # Without `compression=None` a name that ends in .gz would be compressed a second time.
        def put() -> None:
            with system.open_output_stream(path, compression=None) as stream:
                stream.write(data)

        _asked(put)
    except OSError as error:
        raise _unwritten(root, name, data, error) from None


def check_writable(root: str) -> None:
    """See that a local store can be written to, before hours of work for it; an object store tells at its first file.

    Raises:
        StoreError: it cannot; nothing is left behind.
    """
    if is_local(root):
        try:
            check_folder(filesystem(root)[1])
        except AsrkdError as error:
            raise StoreError(f"store {root!r}: {error}") from None


def copy(root: str, out: str, name: str) -> None:
    """Copy a file of a store into another one, if it is there."""
    if exists(root, name):
        write_atomic(out, name, read_bytes(root, name))


def create_new(root: str, name: str, data: bytes) -> bool:
    """Write a file as `write_atomic` does, unless one of this name is there; whether it was written.

    Of several that try at a time one succeeds: by a hard link on a local disk (also on NFS), by a conditional put on an object store.

    Raises:
        StoreError: the file cannot be written, or the store is on a kind of storage without such a put.
        DependencyError: a conditional put needs obstore.
    """
    system, base = filesystem(root)
    try:
        if isinstance(system, fs.LocalFileSystem):
            publish(Path(base) / name, data, os.link)
            return True
        return conditional.put(root, name, data)
    except FileExistsError:
        return False
    except OSError as error:
        raise _unwritten(root, name, data, error) from None


def remove_temporary(root: str, pids: Iterable[int]) -> None:
    """Remove what processes of this machine left behind that were killed while they wrote; nothing on object stores."""
    system, base = filesystem(root)
    if isinstance(system, fs.LocalFileSystem):
        for pid in pids:
            for path in Path(base).glob(f"*/.*.{writer(pid)}-*.tmp"):
                path.unlink(missing_ok=True)


def _unwritten(root: str, name: str, data: bytes, error: OSError) -> StoreError:
    return StoreError(
        f"{name!r} ({len(data)} bytes) cannot be written to the store {root!r}: {reason(error)}. Nothing is left under its name; mend that "
        "and run again: finished units are kept"
    )


def read_bytes(root: str, name: str) -> bytes:
    """Read a whole file of a store.

    Raises:
        StoreError: it is missing or cannot be read.
    """
    system, base = filesystem(root)

    def get() -> bytes:
        with system.open_input_stream(f"{base}/{name}", compression=None) as stream:
            return bytes(stream.read())

    try:
        return attempts(root, get)
    except FileNotFoundError:
        raise StoreError(
            f"store {root!r} has no {name!r}; plan it first (asrkd label plan), or correct the path"
        ) from None
    except OSError as error:
        raise StoreError(f"{name!r} of the store {root!r} cannot be read: {reason(error)}") from None


@dataclass(frozen=True)
class FileFacts:
    """A file's name within its folder, bytes, and time of the last change (seconds since 1970, by the storage's clock)."""

    name: str
    size: int
    modified: float


def list_files(root: str, folder: str, suffix: str) -> list[FileFacts]:
    """The finished files in a folder of a store, sorted by name (temporary files begin with a dot).

    Raises:
        StoreError: the folder cannot be listed.
    """
    _, base = filesystem(root)
    found = _info(root, fs.FileSelector(f"{base}/{folder}", allow_not_found=True), folder)
    facts = [FileFacts(os.path.basename(one.path), one.size or 0, (one.mtime_ns or 0) / 1e9) for one in found]
    chosen = (one for one in facts if one.name.endswith(suffix) and not one.name.startswith("."))
    return sorted(chosen, key=lambda one: one.name)


def list_names(root: str, folder: str, suffix: str) -> list[str]:
    """The names of `list_files`."""
    return [one.name for one in list_files(root, folder, suffix)]


def exists(root: str, name: str) -> bool:
    """Whether a finished file is there.

    Raises:
        StoreError: the store cannot be asked.
    """
    _, base = filesystem(root)
    return bool(_info(root, f"{base}/{name}", name).type == fs.FileType.File)


def _info(root: str, what: str | fs.FileSelector, name: str) -> Any:
    system, _ = filesystem(root)
    try:
        return attempts(root, lambda: system.get_file_info(what))
    except OSError as error:
        raise StoreError(f"{name!r} of the store {root!r} cannot be listed: {reason(error)}") from None


def remove(root: str, name: str) -> None:
    """Remove a file of a store.

    Raises:
        StoreError: it cannot be removed.
    """
    system, base = filesystem(root)
    try:
        _asked(lambda: system.delete_file(f"{base}/{name}"))
    except OSError as error:
        raise StoreError(f"{name!r} of the store {root!r} cannot be removed: {reason(error)}") from None
