"""Audio that lies inside a larger file: where it is, what its header says, and its bytes alone.

A recording of a plan names such a place as its source, so that whoever labels a unit reads the audio of that unit and nothing else:
`{"type": "inside", "source": {"file", "offset", "size"}}`, for a member of a tar file also `member`; in a column of Parquet that is compressed
`{"file", "row_group", "row", "column", "size"}`. (A Shar folder's are of the type `shar` and have `tar` for `file`: lhotse's own name for them.)
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import soundfile

from asrkd.corpus.audio import Unreadable
from asrkd.corpus.parquet_values import read_value
from asrkd.corpus.sound import UnknownFormat, open_sound
from asrkd.errors import CorpusError

BLOCK = tarfile.BLOCKSIZE
# A member's header repeats at most this much of its name.
_SHORT_NAME = 100
# The beginnings of formats whose headers are believed when a corpus is planned (and checked when the audio is read).
_HEADER_ONLY = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"FORM", b".snd", b"caff", b"riff")


# Bytes that are read as a whole for their header: as fast as to look for it in so few.
_SMALL = 1 << 17


def read_place(place: Any) -> bytes:
    """The bytes of the audio at a place.

    Raises:
        CorpusError: the file is missing or has changed, or this names no place.
    """
    if isinstance(place, dict) and "row_group" in place:
        return read_value(place)
    try:
        file, offset, size = str(place.get("tar") or place["file"]), int(place["offset"]), int(place["size"])
        member = place.get("member")
        if offset < (0 if member is None else BLOCK) or size < 0:
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CorpusError(
            "its recording is a Shar placeholder without audio; give the Shar folder, with recording.*.tar, in place of its cuts"
        ) from None
    before = 0 if member is None else BLOCK
    try:
        with open(file, "rb") as stream:
            stream.seek(offset - before)
            header, data = stream.read(before), stream.read(size)
    except OSError as error:
        raise CorpusError(f"{file!r} cannot be read: {error.strerror}; restore it, or plan again") from None
    if len(data) < size or (member is not None and not _is_header_of(header, str(member), size)):
        what = "the audio" if member is None else repr(member)
        raise CorpusError(f"{file!r} no longer holds {what} where it was planned; restore it, or plan again")
    return data


def _is_header_of(header: bytes, member: str, size: int) -> bool:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return info.size == size and (info.name == member or len(member) >= _SHORT_NAME or not member.isascii())


def inside(file: str | Path, offset: int, size: int, member: str | None = None) -> dict[str, Any]:
    """The place of `size` bytes in a file, those of a tar member where `member` names one."""
    place = {"file": os.path.abspath(file), "offset": offset, "size": size}
    return place if member is None else place | {"member": member}


class Part(io.RawIOBase):
    """A stretch of an open file as a file of its own, for readers that look at its beginning and jump."""

    def __init__(self, stream: io.BufferedReader, offset: int, size: int) -> None:
        super().__init__()
        self._stream, self._offset, self._size, self._at = stream, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._stream.seek(self._offset + self._at)
        count = self._stream.readinto(view[: max(0, min(len(view), self._size - self._at))])
        self._at += count
        return count


def placed_recording(
    name: str, place: Mapping[str, Any], stream: io.BufferedReader, what: str
) -> dict[str, Any] | Unreadable:
    """The recording at a place in lhotse's JSON form.

    Args:
        name: the recording's id.
        place: by `inside`.
        stream: its file, open.
        what: the audio as a reason names it.
    """
    begin, size = place["offset"], place["size"]
    try:
        stream.seek(begin)
        if stream.peek(4)[:4] in _HEADER_ONLY:
            stream.seek(begin)
            header = _header(io.BytesIO(stream.read(size)) if size <= _SMALL else Part(stream, begin, size))
            if header:
                return recording_json(name, "inside", dict(place), *header)
        stream.seek(begin)
        return bytes_recording(name, "inside", dict(place), stream.read(size), what)
    except OSError as error:
        return Unreadable(name, f"{what} cannot be read: {error.strerror or error}; restore it, or leave it out")


def bytes_recording(name: str, kind: str, source: Any, data: bytes, what: str) -> dict[str, Any] | Unreadable:
    """The recording whose audio file has these bytes, with a source of this kind."""
    if not data:
        return Unreadable(name, f"{what} is empty (0 bytes); restore it or leave it out")
    header = _header(io.BytesIO(data)) if data[:4] in _HEADER_ONLY else None
    if header is None:
        try:
            sound = open_sound(data)
        except UnknownFormat:
            return Unreadable(
                name, f"{what} is of a format that libsndfile does not know; convert it to FLAC, or leave it out"
            )
        except CorpusError as error:
            why = (
                str(error).partition(" bytes ")[2] if str(error).startswith("audio of ") else f"cannot be read: {error}"
            )
            return Unreadable(name, f"{what} {why}; repair it or leave it out")
        if not sound.num_samples:
            return Unreadable(name, f"{what} holds no samples; repair it or leave it out")
        header = (sound.sampling_rate, sound.channels, sound.num_samples)
    return recording_json(name, kind, source, *header)


def _header(file: Any) -> tuple[int, int, int] | None:
    """Sampling rate, channels and samples by a header alone; None where it cannot be relied on."""
    try:
        with soundfile.SoundFile(file) as decoder:
            if decoder.format not in ("MP3", "OGG") and 0 < decoder.frames < 1 << 60:
                return decoder.samplerate, decoder.channels, decoder.frames
    except (soundfile.SoundFileError, OSError, TypeError):
        pass  # told better by who reads it whole
    return None


def recording_json(name: str, kind: str, source: Any, rate: int, channels: int, samples: int) -> dict[str, Any]:
    """A recording of one source in lhotse's JSON form."""
    return {
        "id": name,
        "sources": [{"type": kind, "channels": list(range(channels)), "source": source}],
        "sampling_rate": rate,
        "num_samples": samples,
        "duration": samples / rate,
        "channel_ids": list(range(channels)),
    }
