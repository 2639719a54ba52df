"""Files of a store: complete or not at all, on a local disk or an object store (`pyarrow.fs`)."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from pyarrow import fs

from asrkd.errors import StoreError


def filesystem(root: str) -> tuple[fs.FileSystem, str]:
    """The filesystem and path of a store's root: a local path, or a URI such as `s3://bucket/prefix`.

    Raises:
        StoreError: the URI cannot be opened.
    """
    if "://" not in root:
        return fs.LocalFileSystem(), str(Path(root).absolute())
    try:
        return fs.FileSystem.from_uri(root)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"store {root!r} cannot be opened ({error}); give a folder or a URI such as s3://bucket/prefix"
        ) from None


def write_atomic(root: str, name: str, data: bytes) -> None:
    """Write a file of a store: a temporary name, fsync and rename on a local disk; one put on an object store.

    Raises:
        StoreError: the file cannot be written; nothing is left under its name.
    """
    system, base = filesystem(root)
    path = f"{base}/{name}"
    try:
        if not isinstance(system, fs.LocalFileSystem):
            with system.open_output_stream(path) as stream:
                stream.write(data)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{os.path.dirname(path)}/.{os.path.basename(path)}.{uuid.uuid4().hex}.tmp"
        try:
            with open(temporary, "wb") as local:
                local.write(data)
                local.flush()
                os.fsync(local.fileno())
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"{name!r} ({len(data)} bytes) cannot be written to the store {root!r}: {reason}. Nothing is left under its name; "
            "free space or rights there, then run again: finished units are kept"
        ) from None


def read_bytes(root: str, name: str) -> bytes:
    """Read a whole file of a store.

    Raises:
        StoreError: it is missing or cannot be read.
    """
    system, base = filesystem(root)
    try:
        with system.open_input_stream(f"{base}/{name}", compression=None) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        raise StoreError(
            f"store {root!r} has no {name!r}; plan it first (asrkd label plan), or correct the path"
        ) from None
    except OSError as error:
        raise StoreError(f"{name!r} of the store {root!r} cannot be read: {error}") from None


def list_names(root: str, folder: str, suffix: str) -> list[str]:
    """Sorted names of the finished files in a folder of a store (temporary files begin with a dot)."""
    system, base = filesystem(root)
    found = system.get_file_info(fs.FileSelector(f"{base}/{folder}", allow_not_found=True))
    names = (os.path.basename(info.path) for info in found)
    return sorted(name for name in names if name.endswith(suffix) and not name.startswith("."))


def exists(root: str, name: str) -> bool:
    """Whether a finished file is there."""
    system, base = filesystem(root)
    return bool(system.get_file_info(f"{base}/{name}").type == fs.FileType.File)
