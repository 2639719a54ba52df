"""What the header of an audio file declares against what the file holds.

libsndfile believes headers: of a file that was cut off it gives what is there, of one whose header declares too little it
gives that, and neither is an error. Here both lengths are found without decoding.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap

Data = bytes | mmap
# A writer that cannot seek back (a pipe) leaves the size at its largest or at 0: ffmpeg, sox, arecord.
_STREAMED = range(0x7FFF0000, 0x80000001), range(0xFFFF0000, 0x100000000)
_FLAC_TAIL = 1 << 18


@dataclass(frozen=True)
class Lengths:
    """Of an audio file.

    Attributes:
        declared: samples by its header.
        held: samples that are in the file.
        patches: (offset, bytes) to be written over the header so that a decoder gives all; empty if it does as it is.
    """

    declared: int
    held: int
    patches: Sequence[tuple[int, bytes]] = ()


def lengths(data: Data) -> Lengths | None:
    """The lengths of a file of a known container; None for other kinds, and where the header tells none."""
    magic = data[:4]
    if magic in (b"RIFF", b"RIFX", b"RF64", b"BW64") and data[8:12] == b"WAVE":
        return _wave(data, "big" if magic == b"RIFX" else "little")
    if magic == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(data)
    if magic == b".snd":
        return _au(data)
    if magic == b"NIST":
        return _sphere(data)
    if magic == b"fLaC":
        return _flac(data)
    return None


def complaint(log: str) -> str | None:
    """The line in which libsndfile's log of opening a file of another kind says that it is not whole."""
    for line in log.splitlines():
        if re.search(r"should be|truncated|does not match|not equal", line):
            return " ".join(line.split())
    return None


def _is_streamed(size: int) -> bool:
    return any(size in sizes for sizes in _STREAMED)


def _wave(data: Data, order: str) -> Lengths | None:
    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]

    at, align, per_block, wide, end = 12, 0, 1, 0, len(data)
    while at + 8 <= end:
        name, size = data[at : at + 4], number(at + 4, 4)
        if name == b"ds64":
            wide = number(at + 16, 8)
        elif name == b"fmt ":
            align = number(at + 20, 2)
            if number(at + 8, 2) in (0x2, 0x11, 0x31) and size >= 20:  # ADPCM, GSM: blocks of samples
                per_block = number(at + 26, 2)
        elif name == b"data":
            begin = at + 8
            if not align:
                return None
            if size == 0xFFFFFFFF and wide:
                size = wide
            there = end - begin
            if _is_streamed(size):
                return Lengths(there // align * per_block, there // align * per_block)
            behind = begin + size + size % 2
            if size <= there and not _is_audio(data, behind, order):
                return Lengths(size // align * per_block, size // align * per_block)
            held = there // align * per_block
            if size == 0 and held:
                patched = min(there, 0xFFFFFFFF).to_bytes(4, order)  # type: ignore[arg-type]
                return Lengths(held, held, [(at + 4, patched)])
            return Lengths(size // align * per_block, held)
        at += 8 + size + size % 2
    return None


def _is_audio(data: Data, at: int, order: str) -> bool:
    """Whether what is after the samples is more of them: neither further chunks nor padding."""
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], order)  # type: ignore[arg-type]
        if not any(name) and not any(data[at : at + 4096]):
            return False
        if not re.fullmatch(rb"[ -~]{4}", name) or name in (b"RIFF", b"RF64") or at + 8 + size > len(data) + 1:
            return True
        at += 8 + size + size % 2
    return False


def _aiff(data: Data) -> Lengths | None:
    at, frames, align, end = 12, None, 0, len(data)
    while at + 8 <= end:
        name, (size,) = data[at : at + 4], struct.unpack(">I", data[at + 4 : at + 8])
        if name == b"COMM":
            channels, frames, bits = struct.unpack(">hIh", data[at + 8 : at + 16])
            coding = data[at + 26 : at + 30] if data[8:12] == b"AIFC" else b"NONE"
            if coding.lower() in (b"none", b"sowt", b"twos", b"fl32", b"fl64", b"raw ", b"in24", b"in32"):
                align = channels * -(-bits // 8)
            elif coding.lower() in (b"alaw", b"ulaw"):
                align = channels
        elif name == b"SSND" and align and frames is not None:
            (offset,) = struct.unpack(">I", data[at + 8 : at + 12])
            held = max(0, end - at - 16 - offset) // align
            if size > 8 + offset and not _is_audio(data, at + 8 + size + size % 2, "big"):
                held = min(held, (size - 8 - offset) // align)
            if frames == 0 or (size in (0, 8) and frames == held):  # left by a writer that could not seek back
                return Lengths(held, held)
            return Lengths(frames, held)
        at += 8 + size + size % 2
    return None


# By the number of the encoding: bytes of a sample.
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}


def _au(data: Data) -> Lengths | None:
    if len(data) < 24:
        return None
    offset, size, coding, _, channels = struct.unpack(">5I", data[4:24])
    align = _AU_BYTES.get(coding, 0) * channels
    if not align:
        return None
    held = max(0, len(data) - offset) // align
    if size == 0 and held:
        return Lengths(held, held, [(8, b"\xff\xff\xff\xff")])
    return Lengths(held if _is_streamed(size) else size // align, held)


def _sphere(data: Data) -> Lengths | None:
    try:
        header_size = int(data[8:16])
        header = data[:header_size].decode("ascii", "replace")
    except ValueError:
        return None

    def field(name: str) -> str:
        found = re.search(rf"^{name} -\S+ (\S+)", header, re.MULTILINE)
        return found.group(1) if found else ""

    if "," in field("sample_coding"):  # shorten
        return None
    try:
        count, channels, size = (int(field(f)) for f in ("sample_count", "channel_count", "sample_n_bytes"))
    except ValueError:
        return None
    if channels < 1 or size < 1:
        return None
    return Lengths(count, max(0, len(data) - header_size) // (channels * size))


def _flac(data: Data) -> Lengths | None:
    if len(data) < 42 or data[4] & 0x7F:
        return None
    block = int.from_bytes(data[8:10], "big")
    packed = int.from_bytes(data[18:26], "big")
    declared = packed & 0xFFFFFFFFF
    second = data.find(b"fLaC\x00\x00\x00\x22", 4)
    if second > 0:  # joined files, of which a decoder gives the first
        behind = _flac(data[second:])
        return Lengths(declared, declared + (behind.held if behind else 0))
    tail = data[max(42, len(data) - _FLAC_TAIL) :]
    held, at = 0, len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        end = _flac_frame_end(tail, at, block)
        if end is not None and (end == declared or (held == 0 and end < 1 << 36)):
            held = end
            if not declared or end == declared:
                break
    if not held:
        return None
    if not declared:
        return Lengths(held, held, [(18, (packed | held).to_bytes(8, "big"))])
    return Lengths(declared, held)


def _flac_frame_end(data: bytes, at: int, block: int) -> int | None:
    """Samples up to the end of the frame whose header is at `at`; None if there is none."""
    head = data[at : at + 16]
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    if size_code == 0 or rate_code == 15 or head[3] >> 4 > 10 or head[3] >> 1 & 7 == 3:
        return None
    lead = head[4]
    # As in UTF-8, as many ones lead the first byte as there are bytes, then a zero.
    extra = 0 if lead < 0x80 else next((n for n in range(1, 7) if lead >> (6 - n) == (1 << n + 2) - 2), 7)
    if extra == 7:
        return None
    number = lead if not extra else lead & (1 << 6 - extra) - 1
    for byte in head[5 : 5 + extra]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    cursor = 5 + extra
    if size_code in (6, 7):
        width = size_code - 5
        size = int.from_bytes(head[cursor : cursor + width], "big") + 1
        cursor += width
    elif size_code == 1:
        size = 192
    else:
        size = 576 << size_code - 2 if size_code < 6 else 256 << size_code - 8
    cursor += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if cursor >= len(head) or _crc8(head[:cursor]) != head[cursor]:
        return None
    return number + size if head[1] & 1 else number * block + size


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc
