"""Ogg (Vorbis, Opus): where one stream ends and the next begins, of files that were joined; decoders give only the first."""

from __future__ import annotations

from mmap import mmap


def streams(data: bytes | mmap) -> list[tuple[int, int]]:
    """(begin, end) of the streams one behind the other, by the headers of their pages."""
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
