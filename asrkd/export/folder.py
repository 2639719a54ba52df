"""A folder that is there whole, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asrkd import files
from asrkd.errors import ConfigError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write in, which becomes `out` where the block ends without an error.

    Raises:
        ConfigError: `out` is there and not empty, or cannot be written.
    """
    try:
        if out.exists() and not out.is_dir():
            raise ConfigError(f"{str(out)!r} is a file, but must be a new folder; give another")
        if out.exists() and any(out.iterdir()):
            raise ConfigError(f"{str(out)!r} is not empty, and what it holds would be lost; give a new folder")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(out.parent)) from None
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    except OSError as error:
        raise files.refused(error, out) from None
    try:
        yield work
        work.chmod(0o755)
        work.replace(out)
    except OSError as error:
        raise files.refused(error, out) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
