"""The members of a tar file, and the places of their bytes."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from asrkd.errors import CorpusError


class DamagedTar(CorpusError):
    """A tar file that ends early or is not one; what was read of it before is whole."""


def tar_members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The files in a tar file, in order, one in memory at a time.

    Raises:
        DamagedTar: it is cut off, or not a tar file.
        CorpusError: it is missing or compressed.
    """
    what = f"tar file {str(path)!r}"
    try:
        size, last = os.path.getsize(path), "its beginning"
        with open(path, "rb") as stream:
            if stream.read(2) == b"\x1f\x8b" or path.suffix in (".gz", ".tgz", ".bz2", ".xz", ".zst"):
                raise CorpusError(
                    f"{what} is compressed, so the audio of one cut cannot be found in it without unpacking all; unpack it"
                )
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep all it has seen
                if not member.isfile():
                    continue
                if member.offset_data + member.size > size:
                    raise DamagedTar(f"{what} is cut off in {member.name!r}, after {last}; restore it")
                yield member
                last = repr(member.name)
    except tarfile.TarError as error:
        raise DamagedTar(f"{what} is damaged after {last} ({error}); restore it") from None
    except OSError as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"
        raise CorpusError(f"{what} {why}; restore it") from None
