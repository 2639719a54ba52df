"""Files of a store: complete or not at all, on a local disk or an object store (`pyarrow.fs`)."""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import fs

from asrkd.errors import AsrkdError, StoreError
from asrkd.files import check_folder, publish, reason, writer
from asrkd.store import conditional
from asrkd.store.remote import check_local, open_remote
from asrkd.store.threads import read_ahead

T = TypeVar("T")
# Seconds before the second, third and fourth attempt.
_WAITS = (0.1, 0.4, 1.6)
# Seconds after which a server that does not answer is not asked again.
_PATIENCE = 10.0
# Of a large file, at a time; pieces are fetched in parallel, because an object store bounds the speed of a connection.
_COPIED_BYTES = 64 * 2**20
_FETCHED_BYTES, _FETCHED_AT_A_TIME = 192 * 2**20, 2


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file's name within its folder, bytes, and time of the last change (seconds since 1970, by the storage's clock)."""

    name: str
    size: int
    modified: float


@dataclass(frozen=True)
class Files:
    """The files below a store's root. It pickles as the root; the filesystem is opened where it is used.

    Attributes:
        root: a local path, or a URI such as `s3://bucket/prefix`.
    """

    root: str

    @property
    def filesystem(self) -> tuple[fs.FileSystem, str]:
        """The filesystem, and the root's path in it.

        Raises:
            StoreError: the URI cannot be opened.
        """
        if "://" not in self.root:
            check_local(self.root)
            return fs.LocalFileSystem(), str(Path(self.root).absolute())
        return _remote(self.root)

    @property
    def is_local(self) -> bool:
        """Whether they are on a local (or mounted) disk rather than an object store."""
        return isinstance(self.filesystem[0], fs.LocalFileSystem)

    def attempts(self, work: Callable[[], T]) -> T:
        """The result of reading; on an object store it is tried again after a failure that may pass, such as an answer cut off.

        (The S3 client tries again by itself when the server says that it is busy, but not when a body ends early.)
        """
        began = time.monotonic()
        for wait in () if self.is_local else _WAITS:
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

    def check_writable(self) -> None:
        """See that a local store can be written to, before hours of work for it; an object store tells at its first file.

        Raises:
            StoreError: it cannot; nothing is left behind.
        """
        if self.is_local:
            try:
                check_folder(self.filesystem[1])
            except AsrkdError as error:
                raise StoreError(f"store {self.root!r}: {error}") from None

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
            StoreError: it is missing or cannot be read.
        """
        data = self.read_or_none(name)
        if data is None:
            raise StoreError(
                f"store {self.root!r} has no {name!r}; plan it first (asrkd label plan), or correct the path"
            )
        return data

    def read_or_none(self, name: str) -> bytes | None:
        """As `read`, None where there is no such file; by one look, so that others may create or remove it meanwhile.

        Raises:
            StoreError: it cannot be read.
        """
        system, base = self.filesystem

        def get() -> bytes:
            with system.open_input_stream(f"{base}/{name}", compression=None) as stream:
                return bytes(stream.read())

        try:
            return self.attempts(get)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{name!r} of the store {self.root!r} cannot be read: {reason(error)}") from None

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all: a temporary name, fsync and rename on a local disk; one put on an object store.

        Raises:
            StoreError: the file cannot be written; nothing is left under its name.
        """
        system, base = self.filesystem
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
            raise self._unwritten(name, len(data), error) from None

    def create(self, name: str, data: bytes) -> bool:
        """Write a file as `write` does, unless one of this name is there; whether it was written.

        Of several that try at a time one succeeds: by a hard link on a local disk (also on NFS), by a conditional put on an object store.

        Raises:
            StoreError: the file cannot be written, or the store is on a kind of storage without such a put.
            DependencyError: a conditional put needs obstore.
        """
        system, base = self.filesystem
        try:
            if isinstance(system, fs.LocalFileSystem):
                publish(Path(base) / name, data, os.link)
                return True
            return conditional.put(self.root, name, data)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._unwritten(name, len(data), error) from None

    def scratch(self, folder: str) -> str:
        """A folder of this machine for files that `place` moves to `folder`: there itself if the store is local.

        Raises:
            StoreError: it cannot be made.
        """
        system, base = self.filesystem
        if not isinstance(system, fs.LocalFileSystem):
            return tempfile.gettempdir()
        try:
            os.makedirs(f"{base}/{folder}", exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder!r} of the store {self.root!r} cannot be made: {reason(error)}") from None
        return f"{base}/{folder}"

    def place(self, path: Path, name: str) -> None:
        """Move a finished file of this machine (in `scratch`) into the store, whole or not at all.

        Raises:
            StoreError: the file cannot be written; nothing is left under its name.
        """
        system, base = self.filesystem
        try:
            if isinstance(system, fs.LocalFileSystem):
                os.replace(path, f"{base}/{name}")
                return

            def put() -> None:
                with open(path, "rb") as source, system.open_output_stream(f"{base}/{name}", compression=None) as out:
                    shutil.copyfileobj(source, out, _COPIED_BYTES)

            _asked(put)
            path.unlink()
        except OSError as error:
            raise self._unwritten(name, path.stat().st_size, error) from None

    def read_pieces(self, name: str, fill: Callable[[bytes], object]) -> None:
        """Hand a file's bytes to `fill`, in order, in few large pieces: one request each on an object store.

        Raises:
            FileNotFoundError: it is not there.
            StoreError: it cannot be read.
        """
        system, base = self.filesystem
        try:
            with self.attempts(lambda: system.open_input_file(f"{base}/{name}")) as source:
                size = source.size()

                def read(start: int) -> bytes:
                    return self.attempts(functools.partial(source.read_at, min(_FETCHED_BYTES, size - start), start))

                starts = range(0, size, _FETCHED_BYTES)
                for piece in read_ahead(read, starts, _FETCHED_AT_A_TIME, waiting=0):
                    fill(piece)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"{name!r} of the store {self.root!r} cannot be read: {reason(error)}") from None

    def copy(self, name: str, out: Files) -> None:
        """Copy a file to another store, if it is there."""
        data = self.read_or_none(name)
        if data is not None:
            out.write(name, data)

    def remove(self, name: str) -> None:
        """Remove a file; nothing is to be done where another has removed it.

        Raises:
            StoreError: it cannot be removed.
        """
        system, base = self.filesystem
        try:
            _asked(lambda: system.delete_file(f"{base}/{name}"))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(f"{name!r} of the store {self.root!r} cannot be removed: {reason(error)}") from None

    def remove_temporary(self, pids: Iterable[int]) -> None:
        """Remove what processes of this machine left behind that were killed while they wrote; nothing on object stores."""
        system, base = self.filesystem
        if isinstance(system, fs.LocalFileSystem):
            for pid in pids:
                for path in Path(base).glob(f"*/.*.{writer(pid)}-*.tmp"):
                    path.unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        """Whether a finished file is there.

        Raises:
            StoreError: the store cannot be asked.
        """
        return bool(self._info(f"{self.filesystem[1]}/{name}", name).type == fs.FileType.File)

    def list(self, folder: str, suffix: str) -> list[FileFacts]:
        """The finished files in a folder, sorted by name (temporary files begin with a dot).

        Raises:
            StoreError: the folder cannot be listed.
        """
        return sorted(self.scan(folder, suffix), key=lambda file: file.name)

    def scan(self, folder: str, suffix: str) -> Iterator[FileFacts]:
        """As `list`, in any order and one at a time: of a hundred thousand local files none is held."""
        system, base = self.filesystem
        facts: Iterable[FileFacts]
        if isinstance(system, fs.LocalFileSystem):
            facts = self._scan_local(f"{base}/{folder}", folder)
        else:
            facts = (
                FileFacts(info.base_name, info.size or 0, (info.mtime_ns or 0) / 1e9)
                for info in self._info(fs.FileSelector(f"{base}/{folder}", allow_not_found=True), folder)
            )
        return (file for file in facts if file.name.endswith(suffix) and not file.name.startswith("."))

    def _scan_local(self, path: str, folder: str) -> Iterator[FileFacts]:
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    try:
                        facts = entry.stat()
                    except FileNotFoundError:
                        # It was removed meanwhile, or is a link to nothing, which its reader will tell.
                        if entry.is_symlink():
                            yield FileFacts(entry.name, 0, 0.0)
                        continue
                    yield FileFacts(entry.name, facts.st_size, facts.st_mtime)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{folder!r} of the store {self.root!r} cannot be listed: {reason(error)}") from None

    def _info(self, what: str | fs.FileSelector, name: str) -> Any:
        system, _ = self.filesystem
        try:
            return self.attempts(lambda: system.get_file_info(what))
        except OSError as error:
            raise StoreError(f"{name!r} of the store {self.root!r} cannot be listed: {reason(error)}") from None

    def _unwritten(self, name: str, num_bytes: int, error: OSError) -> StoreError:
        return StoreError(
            f"{name!r} ({num_bytes} bytes) cannot be written to the store {self.root!r}: {reason(error)}. Nothing is left under its name; "
            "fix that and run again: finished units are kept"
        )


# A client of an object store keeps its connections: one for each root, not for each file.
@functools.lru_cache(maxsize=32)
def _remote(root: str) -> tuple[fs.FileSystem, str]:
    return open_remote(root)


def _asked(work: Callable[[], T]) -> T:
    """The result of asking a filesystem. Those of fsspec (`hf://`) raise the kinds of errors of the libraries below them."""
    try:
        return work()
    except (AsrkdError, OSError, pa.ArrowException):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {' '.join(str(error).split())}") from None
