"""The members of a tar file, and the places of their bytes."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from asrkd.errors import CorpusError

_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst")


class DamagedTar(CorpusError):
    """A tar file that ends early or is not one; what was read of it before is whole."""


def tar_members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The files in a tar file, in order, one in memory at a time.

    Raises:
        DamagedTar: it is cut off, or not a tar file.
        CorpusError: it is missing or compressed.
    """
    what, last, end = f"tar file {str(path)!r}", "its beginning", 0
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as stream:
            if stream.read(2) == b"\x1f\x8b" or path.suffix in _COMPRESSED:
                raise CorpusError(
                    f"{what} is compressed, so the audio of one cut cannot be found in it without unpacking all; unpack it"
                )
            with tarfile.open(path, "r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep all it has seen
                    if member.isfile():
                        if member.offset_data + member.size > size:
                            raise DamagedTar(f"{what} is cut off in {member.name!r}, after {last}; restore it")
                        yield member
                    last, end = repr(member.name), tar.offset
            # tarfile takes a header that is broken, or half there, for the end; the end of a tar file is a block of zeros.
            stream.seek(end)
            block = stream.read(tarfile.BLOCKSIZE)
            if len(block) < tarfile.BLOCKSIZE or any(block):
                raise DamagedTar(f"{what} is {'damaged' if any(block) else 'cut off'} after {last}; restore it")
    except tarfile.TarError as error:
        raise DamagedTar(f"{what} is damaged after {last} ({error}); restore it") from None
    except OSError as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"
        raise CorpusError(f"{what} {why}; restore it") from None
