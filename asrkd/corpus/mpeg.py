"""MPEG audio (MP3, MP2, MP1), counted frame by frame: no header of such a file can be relied on for its length.

Without a Xing frame a decoder guesses the length from the first frame's bit rate, a Xing frame may be of another file
(streams that were cut or joined), and libsndfile's seeking is only about right. So the frames are walked, which reads
the file but decodes nothing, and a decoder is given exactly the frames that hold the samples wanted.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from asrkd.errors import CorpusError

_KILOBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)
# By the two bits of the version: its number, and by how much its sampling rates are divided.
_VERSIONS = {3: (1, 1), 2: (2, 2), 0: (2, 4)}
# What a layer III decoder is late by, which a tag's delay does not count (LAME's "decoder delay" and one).
_DECODER_DELAY = 529
# A frame may take bits from those before it (511 bytes at most), and overlaps with the last. So decoding begins earlier,
# where the very first frames, whose own bits are not all there, only give theirs.
_FRAMES_BEFORE, _MUTE = 40, 30
_TAGS = (b"Xing", b"Info")
# Bytes between a frame's header and its tag, by version and channels.
_SIDE = {(1, 1): 17, (1, 2): 32, (2, 1): 9, (2, 2): 17}


@dataclass(frozen=True)
class _Kind:
    """What all frames of one stream share."""

    sampling_rate: int
    samples: int
    layer: int
    version: int


def _header_table() -> dict[bytes, tuple[_Kind, int]]:
    """By the first three bytes of a frame: its kind and its size in bytes."""
    table = {}
    for version_bits, (version, divisor) in _VERSIONS.items():
        for layer in (1, 2, 3):
            for rate_bits, base in enumerate(_RATES):
                samples = 384 if layer == 1 else 576 if (layer, version) == (3, 2) else 1152
                kind = _Kind(base // divisor, samples, layer, version)
                for bits in range(1, 15):
                    rate = _KILOBITS[version, layer][bits - 1] * 1000
                    for padding in (0, 1):
                        if layer == 1:
                            size = (12 * rate // kind.sampling_rate + padding) * 4
                        else:
                            size = samples // 8 * rate // kind.sampling_rate + padding
                        for crc in (0, 1):
                            for private in (0, 1):
                                first = 0xE0 | version_bits << 3 | (4 - layer) << 1 | crc
                                second = bits << 4 | rate_bits << 2 | padding << 1 | private
                                table[bytes((0xFF, first, second))] = (kind, size)
    return table


_HEADERS = _header_table()


def looks_like_mpeg(data: bytes) -> bool:
    """Whether data begin as MPEG audio or as the tag in front of it."""
    return data[:3] == b"ID3" or data[:3] in _HEADERS


class MpegAudio:
    """The frames of an MPEG audio file.

    Attributes:
        sampling_rate, channels: of every frame.
        declared: samples by the file's own tag; None without one.
        num_samples: samples that it holds: those of all frames, without the encoder's delay and padding where a tag tells them.
    """

    def __init__(self, data: bytes, what: str) -> None:
        """Walk the frames.

        Raises:
            CorpusError: there are none, or they change their sampling rate or number of channels.
        """
        self._data, self._what = data, what
        kind, offsets, sizes = _walk(data, what)
        mono = {_is_mono(data, at) for at in offsets}
        if len(mono) > 1:
            raise CorpusError(f"{what} changes between mono and stereo; decode it to WAV or FLAC")
        self.sampling_rate, self.channels = kind.sampling_rate, 1 if mono.pop() else 2
        self._kind = kind
        side = _SIDE[kind.version, self.channels]
        tag = next((at for at in offsets[:1] if _is_tag(data, at, side)), None)
        vbri = data[offsets[0] + 36 : offsets[0] + 40] == b"VBRI"
        tags = {0} if vbri else set()
        tags.update(number for number in _marked(data, offsets) if _is_tag(data, offsets[number], side))
        kept = [number for number in range(len(offsets)) if number not in tags]
        if not kept:
            raise CorpusError(f"{what} holds no audio, only the tag in front of it")
        self._offsets = np.array([offsets[number] for number in kept], dtype=np.int64)
        self._sizes = np.array([sizes[number] for number in kept], dtype=np.int64)
        total = len(kept) * kind.samples
        self.declared: int | None = None
        self._skip, end = 0, 0
        if tag is not None:
            frames, delay, padding = _read_tag(data[tag + 4 + side : tag + sizes[0]])
            if delay is not None and padding is not None:
                self._skip, end = delay + _DECODER_DELAY, max(0, padding - _DECODER_DELAY)
            if frames is not None:
                self.declared = max(0, frames * kind.samples - self._skip - end)
            if frames != len(kept):
                end = 0  # the tag is of other frames, so what it says of their end is, too
        self.num_samples = max(0, total - self._skip - end)

    def read(self, start: int, count: int) -> NDArray[np.float32]:
        """(channels, count) samples from `start` on, which must lie within.

        Raises:
            CorpusError: the decoder gives others than the frames hold.
        """
        size = self._kind.samples
        begin = start + self._skip
        first = max(0, begin // size - _FRAMES_BEFORE)
        last = min(len(self._offsets), -(-(begin + count) // size) + 1)
        frames = [
            self._data[at : at + length]
            for at, length in zip(self._offsets[first:last].tolist(), self._sizes[first:last].tolist(), strict=True)
        ]
        if first and self._kind.layer == 3:
            frames[:_MUTE] = [self._mute(frame) for frame in frames[:_MUTE]]
        stream = io.BytesIO(self._opening(len(frames)) + b"".join(frames))
        with soundfile.SoundFile(stream) as decoder:
            samples = decoder.read(dtype="float32", always_2d=True).T
        silence = size - _DECODER_DELAY if self._kind.layer == 3 else 0
        if samples.shape != (self.channels, len(frames) * size + silence):
            raise CorpusError(
                f"{self._what} holds {len(frames) * size} samples by its frames, but {samples.shape[1] - silence} are decoded; "
                "it is damaged"
            )
        at = begin - first * size + silence
        return np.ascontiguousarray(samples[:, at : at + count])

    def _mute(self, frame: bytes) -> bytes:
        """A frame that sounds of nothing, with the bits that later frames take from it."""
        side = _SIDE[self._kind.version, self.channels]
        return b"".join((frame[:1], bytes([frame[1] | 1]), frame[2:4], bytes(side), frame[4 + side :]))

    def _opening(self, frames: int) -> bytes:
        """What goes in front of frames so that a decoder knows how many there are: a tag, and a silent frame.

        With a tag, the decoder drops its own delay, which the silent frame is there for. Only layer III has tags.
        """
        if self._kind.layer != 3:
            return b""
        side = _SIDE[self._kind.version, self.channels]
        header = bytearray(self._data[self._offsets[0] : self._offsets[0] + 4])
        header[1] |= 1  # no checksum
        for bits in range(1, 15):
            header[2] = header[2] & 0x0D | bits << 4
            size = _HEADERS[bytes(header[:3])][1]
            if size >= 4 + side + 12:
                break
        tag = bytes(header) + bytes(side) + b"Xing" + struct.pack(">II", 1, frames + 1)
        return tag.ljust(size, b"\0") + bytes(header).ljust(size, b"\0")


def _walk(data: bytes, what: str) -> tuple[_Kind, list[int], list[int]]:
    offsets: list[int] = []
    sizes: list[int] = []
    kind: _Kind | None = None
    at, end = 0, len(data)
    while at + 4 <= end:
        found = _HEADERS.get(data[at : at + 3])
        # Where a header was cut off, its last byte may be of what comes behind.
        other = (
            offsets and found is not None and (found[0] is not kind or _is_mono(data, at) != _is_mono(data, offsets[0]))
        )
        if found is None or (other and not _follows(data, at)):
            at = _resynchronized(data, at)
            continue
        if kind is None:
            if not _follows(data, at):
                at = _resynchronized(data, at + 1)
                continue
            kind = found[0]
        elif found[0] is not kind and found[0] != kind:
            raise CorpusError(
                f"{what} changes from {kind.sampling_rate} Hz, layer {kind.layer} to {found[0].sampling_rate} Hz, layer "
                f"{found[0].layer}; decode it to WAV or FLAC"
            )
        if at + found[1] > end:
            break  # a frame that was cut off is not decoded
        offsets.append(at)
        sizes.append(found[1])
        at += found[1]
    if kind is None or not offsets:
        raise CorpusError(f"{what} holds no frame of MPEG audio of a known bit rate; decode it to WAV or FLAC")
    return kind, offsets, sizes


def _is_mono(data: bytes, at: int) -> bool:
    return data[at + 3] >> 6 == 3


def _follows(data: bytes, at: int) -> bool:
    """Whether the frame at `at` is followed by another, a tag or the end, as chance would not have it."""
    kind, size = _HEADERS[data[at : at + 3]]
    behind = data[at + size : at + size + 3]
    if at + size > len(data):
        return False
    if len(behind) < 3 or behind in (b"TAG", b"ID3", b"APE"):
        return True
    following = _HEADERS.get(behind)
    return following is not None and following[0] is kind


def _resynchronized(data: bytes, at: int) -> int:
    """Where the next frame begins, behind tags and whatever else is not audio."""
    if data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        size = 0
        for byte in data[at + 6 : at + 10]:
            size = size << 7 | byte & 0x7F
        return at + 10 + size
    if data[at : at + 3] == b"TAG":
        return at + 128
    if data[at : at + 8] == b"APETAGEX" and at + 32 <= len(data):
        size, _, flags = struct.unpack("<III", data[at + 12 : at + 24])
        # A header is followed by what its size counts, a footer by nothing of the tag.
        return at + 32 + (size if flags >> 29 & 1 else 0)
    at += 1
    while (at := data.find(b"\xff", at)) >= 0:
        if data[at : at + 3] in _HEADERS and _follows(data, at):
            return at
        at += 1
    return len(data)


def _marked(data: bytes, offsets: list[int]) -> list[int]:
    """Numbers of the frames that hold the letters of a tag."""
    numbers = set()
    starts = np.array(offsets)
    for mark in _TAGS:
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            numbers.add(int(np.searchsorted(starts, at, side="right")) - 1)
    return sorted(number for number in numbers if number >= 0)


def _is_tag(data: bytes, at: int, side: int) -> bool:
    return data[at + 4 + side : at + 8 + side] in _TAGS


def _read_tag(tag: bytes) -> tuple[int | None, int | None, int | None]:
    """Frames, encoder delay and padding by a Xing or Info tag; None for what it does not tell."""
    if len(tag) < 8:
        return None, None, None
    (flags,) = struct.unpack(">I", tag[4:8])
    frames = struct.unpack(">I", tag[8:12])[0] if flags & 1 and len(tag) >= 12 else None
    at = 8 + (4 if flags & 1 else 0) + (4 if flags & 2 else 0) + (100 if flags & 4 else 0) + (4 if flags & 8 else 0)
    if frames is None:
        return None, None, None
    if len(tag) < at + 24:
        return frames, 0, 0
    delay_and_padding = int.from_bytes(tag[at + 21 : at + 24], "big")
    return frames, delay_and_padding >> 12, delay_and_padding & 0xFFF
