"""Ogg (Vorbis, Opus): where one stream ends and the next begins, of files that were joined (decoders give only the first), and serial numbers."""

from __future__ import annotations

import zlib
from mmap import mmap


def streams(data: bytes | mmap) -> list[tuple[int, int]]:
    """(begin, end) of the streams one after the other, by the headers of their pages."""
    begins: list[int] = []
    at, in_audio = data.find(b"OggS"), True
    while 0 <= at and at + 27 <= len(data):
        if data[at : at + 4] != b"OggS":
            at = data.find(b"OggS", at)  # damaged, or junk in between
            continue
        is_first = bool(data[at + 5] & 2)
        # Streams that run side by side begin together; one behind another begins after audio.
        if is_first and in_audio:
            begins.append(at)
        in_audio = not is_first
        count = data[at + 26]
        at += 27 + count + sum(data[at + 27 : at + 27 + count])
    return list(zip(begins, [*begins[1:], len(data)], strict=True))


def is_ended(data: bytes | mmap, begin: int, end: int) -> bool:
    """Whether the last page of a stream is there and says so."""
    at = data.rfind(b"OggS", begin, end)
    if at < 0 or at + 27 > end:
        return False
    count = data[at + 26]
    return bool(data[at + 5] & 4) and at + 27 + count + sum(data[at + 27 : at + 27 + count]) <= end


def with_serial(data: bytes, serial: int) -> bytes:
    """The pages of a stream with this serial number, and their checksums.

    Raises:
        ValueError: the data is not pages of Ogg, one after the other.
    """
    pages, at = bytearray(data), 0
    while at < len(pages):
        if pages[at : at + 4] != b"OggS" or at + 27 > len(pages):
            raise ValueError(f"no page of Ogg at byte {at}")
        count = pages[at + 26]
        end = at + 27 + count + sum(pages[at + 27 : at + 27 + count])
        pages[at + 14 : at + 18] = serial.to_bytes(4, "little")
        pages[at + 22 : at + 26] = bytes(4)
        pages[at + 22 : at + 26] = _checksum(bytes(pages[at:end])).to_bytes(4, "little")
        at = end
    return bytes(pages)


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _checksum(page: bytes) -> int:
    """Ogg's: the polynomial of zlib's, but highest bit first, and without its inversion before and after."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
