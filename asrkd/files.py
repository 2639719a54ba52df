"""Files out: whole or not at all, and one line of what the system refuses.

Every output but a store's on an object store is written through `write`: a temporary name next to the file, flushed to the disk, then renamed.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from asrkd.errors import AsrkdError, ConfigError

_ADVICE = {
    errno.ENOSPC: "free space there, or choose another place",
    errno.EDQUOT: "free some of your quota there, or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.EACCES: "get the right to it, or choose another place",
    errno.EPERM: "get the right to it, or choose another place",
    errno.ENOTDIR: "a file is where a folder belongs; choose another place",
    errno.EISDIR: "a folder is where a file belongs; choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "correct the path",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENOMEM: "give the command more memory",
}


def reason(error: OSError) -> str:
    """Why the system refused, with what to do about it, for the end of a message."""
    text = error.strerror or str(error) or type(error).__name__
    advice = _ADVICE.get(error.errno or 0)
    return f"{text}; {advice}" if advice else text


def refused(error: OSError, path: str | Path | None = None) -> AsrkdError:
    """The error of an operation that the system refused: the path, the reason, what to do."""
    name = path if path is not None else error.filename
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return AsrkdError(f"{str(name)!r}: {reason(error)}" if name is not None else f"the system refused: {reason(error)}")


def write(path: str | Path, content: str | bytes | Callable[[IO[bytes]], object]) -> Path:
    """Write a file whole or not at all, making its folder at need; returns its path.

    Args:
        path: the file; an earlier one of that name is replaced.
        content: text (written as UTF-8), bytes, or a function that writes to the binary stream it is given.

    Devices and pipes are written to as they are.

    Raises:
        AsrkdError: it cannot be written; nothing is left of it, and an earlier file of that name is as it was.
    """
    path = Path(path)
    try:
        publish(path, content, os.replace)
    except OSError as error:
        raise AsrkdError(f"{str(path)!r} cannot be written: {reason(error)}. Nothing is left under its name") from None
    return path


def publish(
    path: Path, content: str | bytes | Callable[[IO[bytes]], object], move: Callable[[Path, Path], object]
) -> None:
    """`write` with another way to give the finished file its name, such as `os.link`, which fails where there is one.

    Raises:
        OSError: it cannot be written or moved; nothing is left of it.
    """
    if path.exists() and not path.is_file() and not path.is_dir():  # /dev/stdout would be replaced by a file
        with open(path, "wb") as stream:
            _fill(stream, content)
        return
    if path.is_symlink():
        path = path.resolve()
    folder = path.parent
    _make(folder)
    temporary = folder / f".{_short(path.name)}.{writer(os.getpid())}-{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(temporary, "wb") as stream:
            _fill(stream, content)
            stream.flush()
            os.fsync(stream.fileno())
        if path.is_dir():  # else the error would name the temporary file
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        move(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """A folder to write in, which becomes `out` where the block ends without an error; otherwise nothing is left.

    Raises:
        ConfigError: `out` is a folder that is not empty.
        AsrkdError: it is a file, or cannot be made.
    """
    out = Path(out)
    try:
        if _is_there(out):
            if not out.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if any(out.iterdir()):
                raise ConfigError(f"folder {str(out)!r} is not empty, and what it holds would be lost; give a new one")
        _make(out.parent)
        work = out.parent / f".{_short(out.name)}.{writer(os.getpid())}-{uuid.uuid4().hex[:8]}.tmp"
        work.mkdir()
    except OSError as error:
        raise refused(error, out) from None
    try:
        yield work
        work.replace(out)
    except OSError as error:
        raise refused(error, out) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # which a caller raises for another reason
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None


def _fill(stream: IO[bytes], content: str | bytes | Callable[[IO[bytes]], object]) -> None:
    if callable(content):
        content(stream)
    else:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


def writer(pid: int) -> str:
    """How a process of this machine signs its temporary files."""
    return f"{socket.gethostname()}-{pid}"


def _short(name: str) -> str:
    """Of a name that is nearly as long as a file system allows (255 bytes), what leaves room for the signature."""
    return name if len(os.fsencode(name)) < 120 else uuid.uuid5(uuid.NAMESPACE_URL, name).hex


def check_folder(path: str | Path) -> None:
    """See that files can be written to a folder, which need not be there yet, before hours of work for them. Nothing is left behind.

    Raises:
        AsrkdError: it cannot be made or written to.
    """
    folder = Path(path).absolute()
    try:
        while not _is_there(folder):
            folder = folder.parent
        probe = folder / f".{writer(os.getpid())}-{uuid.uuid4().hex[:8]}.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise AsrkdError(f"folder {str(path)!r} cannot be written to: {reason(error)}") from None


def _is_there(path: Path) -> bool:
    """Whether there is something of this name; unlike `exists`, raises what the system says against the name itself."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def check_file(path: str | Path) -> None:
    """See that a file can be written, before hours of work for it. Nothing is left behind.

    Raises:
        AsrkdError: it is a folder, or its folder cannot be made or written to.
    """
    try:
        if _is_there(Path(path)) and not Path(path).is_file():
            if Path(path).is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            return  # a device or a pipe
    except OSError as error:
        raise AsrkdError(f"{str(path)!r} cannot be written: {reason(error)}") from None
    check_folder(Path(path).parent)
