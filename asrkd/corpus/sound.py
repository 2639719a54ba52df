"""One audio file: how much audio it really holds, and its samples, from any position to the sample.

libsndfile decodes. It is not relied on for lengths (see `headers`, `mpeg`, `ogg`) nor for seeking in MP3 and Vorbis, which it
does only about right.
"""

from __future__ import annotations

import contextlib
import functools
import io
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asrkd.corpus import headers, ogg
from asrkd.corpus.mpeg import MpegAudio, looks_like_mpeg
from asrkd.errors import CorpusError

# Decoded by libsndfile.
_LIBSNDFILE = (
    ".flac .wav .wave .rf64 .bwf .w64 .aif .aiff .aifc .au .snd .caf .sph .nist .ogg .oga .opus .mp3 .mp2 .mp1 .mpga .voc .avr .pvf "
    ".paf .sf .ircam .svx .8svx .iff .htk .sds .xi .wve"
)
# Decoded by FFmpeg, if lhotse finds it.
_FFMPEG = ".m4a .aac .wma .amr"
# Formats without a header, which libsndfile tells by the suffix (.vox, .gsm). By .au and .snd it takes any bytes for audio, too.
_HEADERLESS = ("VOX_ADPCM", "GSM610")
SUFFIXES = tuple(f"{_LIBSNDFILE} {_FFMPEG}".split())


class UnknownFormat(CorpusError):
    """libsndfile does not know the format of a file."""


@dataclass(frozen=True)
class Sound:
    """An audio file or its bytes.

    Attributes:
        what: the file as an error names it.
        sampling_rate: hertz.
        channels: how many.
        declared: samples of each channel by the header (or a tag); None where nothing declares them.
        num_samples: samples of each channel that the file holds, not more than can be decoded.
        fault: why the end of this file cannot be relied on; empty if it can.
    """

    what: str
    sampling_rate: int
    channels: int
    declared: int | None
    num_samples: int
    fault: str
    _decode: Callable[[int, int], NDArray[np.float32]]

    def read(self, start: int, count: int) -> NDArray[np.float32]:
        """(channels, count) float32 samples from `start` on.

        Raises:
            CorpusError: the file does not hold them, or is damaged.
        """
        if start + count > self.num_samples:
            raise CorpusError(
                f"{self.what} holds {self.num_samples} samples, not {start + count}{': ' if self.fault else ''}{self.fault}"
            )
        try:
            samples = self._decode(start, count)
        except soundfile.SoundFileError as error:
            raise CorpusError(
                f"{self.what} is damaged ({_plain(error)}); it declares {self.declared} samples"
            ) from None
        if samples.shape[1] != count:
            raise CorpusError(
                f"{self.what} declares {self.declared} samples, but only {start + samples.shape[1]} can be decoded; it is damaged"
            )
        return samples


def open_sound(source: str | Path | bytes) -> Sound:
    """What an audio file holds, counted without decoding where its header cannot be relied on.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        UnknownFormat: libsndfile does not know it.
        CorpusError: it is missing, empty, damaged, or not a file.
    """
    if isinstance(source, bytes):
        return _open(source, None, f"audio of {len(source)} bytes")
    what = f"audio file {readable(str(source))!r}"
    try:
        found = os.stat(source)
    except OSError as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        if isinstance(error, FileNotFoundError) and os.path.islink(source):
            why = f"is a link to {readable(os.readlink(source))!r}, which does not exist"
        raise CorpusError(f"{what} {why}") from None
    if not os.path.isfile(source):
        raise CorpusError(f"{what} is not a file")
    if not found.st_size:
        raise CorpusError(f"{what} is empty (0 bytes)")
    return _open_file(str(source), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _open_file(path: str, size: int, modified: int) -> Sound:
    """A recording has many cuts, so what was found out of it is kept (of an MP3 all of its bytes)."""
    what = f"audio file {readable(path)!r}"
    try:
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _open(data, path, what)
    except OSError as error:
        raise CorpusError(f"{what} cannot be read: {error.strerror or error}") from None


def _open(data: bytes | mmap.mmap, path: str | None, what: str) -> Sound:
    begin = _behind_id3(data)
    suffix = os.path.splitext(path or "")[1].lower()
    if looks_like_mpeg(data[begin : begin + 3]) or suffix in (".mp3", ".mp2", ".mp1", ".mpga"):
        return _mpeg(data, what)
    if data[:4] == b"OggS":
        return _ogg(data, path, what)
    if begin:
        data, path = data[begin:], None
    found = headers.lengths(data)
    source: Callable[[], str | io.BytesIO]
    if found and found.patches:
        patched = bytearray(data[:])
        for at, patch in found.patches:
            patched[at : at + len(patch)] = patch
        whole = bytes(patched)
        source = lambda: io.BytesIO(whole)  # noqa: E731
    elif path is None:
        kept = bytes(data[:])
        source = lambda: io.BytesIO(kept)  # noqa: E731
    else:
        source = lambda: path  # noqa: E731
    with _opened(source(), what) as decoder:
        frames, fault = decoder.frames, ""
        if decoder.format == "MP3":
            return _mpeg(data, what)
        log = "" if found else headers.complaint(decoder.extra_info)
    declared = found.declared if found else frames
    if found and (found.declared != found.held or (not found.patches and abs(found.held - frames) > _slack(decoder))):
        fault = _disagreement(found.declared, found.held if found.declared != found.held else frames)
    elif log:
        fault = f"it is not whole ({log}); make it again"
    if frames > 1 << 60:
        raise CorpusError(f"{what} does not tell its length, and no frame of it can be found; it is damaged")

    def decode(start: int, count: int) -> NDArray[np.float32]:
        with _opened(source(), what) as decoder:
            if start:
                decoder.seek(start)
            return decoder.read(count, dtype="float32", always_2d=True).T

    return Sound(what, decoder.samplerate, decoder.channels, declared, frames, fault, decode)


def _slack(decoder: soundfile.SoundFile) -> int:
    """Samples by which a count of whole blocks may differ from the number of samples in them."""
    return 0 if decoder.subtype.startswith(("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")) else 1024


def _disagreement(declared: int, held: int) -> str:
    what = "it was cut off" if declared > held else "its header is wrong, or files were joined"
    return f"its header declares {declared} samples, but it holds {held}; {what}: make it again, for example by ffmpeg or sox"


def _mpeg(data: bytes | mmap.mmap, what: str) -> Sound:
    frames = MpegAudio(data[:] if isinstance(data, mmap.mmap) else data, what)
    fault = ""
    # One that holds more than its tag declares is decoded whole.
    if frames.declared is not None and frames.declared > frames.num_samples:
        fault = _disagreement(frames.declared, frames.num_samples)
    return Sound(what, frames.sampling_rate, frames.channels, frames.declared, frames.num_samples, fault, frames.read)


def _ogg(data: bytes | mmap.mmap, path: str | None, what: str) -> Sound:
    parts = ogg.streams(data)
    if not parts:
        raise CorpusError(f"{what} holds no beginning of a stream; it is damaged")
    kept = None if path else bytes(data[:])

    def source(number: int) -> str | io.BytesIO:
        if path and len(parts) == 1:
            return path
        begin, end = parts[number]
        if kept is not None:
            return io.BytesIO(kept[begin:end])
        with open(path or "", "rb") as stream:
            stream.seek(begin)
            return io.BytesIO(stream.read(end - begin))

    sizes, kinds = [], set()
    for number in range(len(parts)):
        with _opened(source(number), what) as decoder:
            sizes.append(decoder.frames)
            kinds.add((decoder.samplerate, decoder.channels, decoder.subtype))
    if len(kinds) > 1:
        shown = " and ".join(f"{rate} Hz, {channels} channels, {subtype}" for rate, channels, subtype in sorted(kinds))
        raise CorpusError(f"{what} is of streams that do not go together ({shown}); decode it to WAV or FLAC")
    ((rate, channels, subtype),) = kinds
    total = sum(sizes)
    whole = all(ogg.is_ended(data, begin, end) for begin, end in parts)
    fault = "" if whole else f"it holds {total} samples, but its last page is missing: it was cut off; make it again"

    def decode(start: int, count: int) -> NDArray[np.float32]:
        pieces, at = [], 0
        for number, size in enumerate(sizes):
            first, last = max(start - at, 0), min(start + count - at, size)
            if first < last:
                with _opened(source(number), what) as decoder:
                    if subtype == "OPUS" and first:
                        decoder.seek(first)
                        pieces.append(decoder.read(last - first, dtype="float32", always_2d=True).T)
                    else:
                        pieces.append(decoder.read(last, dtype="float32", always_2d=True).T[:, first:])
            at += size
        return np.concatenate(pieces, axis=1) if pieces else np.zeros((channels, 0), np.float32)

    return Sound(what, rate, channels, total if whole else None, total, fault, decode)


@contextlib.contextmanager
def _opened(source: str | io.BytesIO, what: str) -> Iterator[soundfile.SoundFile]:
    try:
        decoder = soundfile.SoundFile(source)
    except soundfile.LibsndfileError as error:
        if error.code == 1:  # SF_ERR_UNRECOGNISED_FORMAT
            raise UnknownFormat(f"{what} cannot be read: libsndfile knows no such format") from None
        raise CorpusError(f"{what} cannot be read ({_plain(error)}); it is damaged, or not audio") from None
    except (OSError, TypeError) as error:  # soundfile takes a name without header (.raw) for what needs parameters
        raise UnknownFormat(f"{what} cannot be read: libsndfile does not open it ({error})") from None
    with decoder:
        if decoder.format == "RAW" and decoder.subtype not in _HEADERLESS:
            # Not unknown: lhotse's decoders use libsndfile, too.
            raise CorpusError(
                f"{what} cannot be read: it has no header of a format that libsndfile knows, which takes any bytes for audio by the suffix"
            )
        yield decoder


def _plain(error: Exception) -> str:
    """What libsndfile says, without the name of the file, which is told anyway."""
    return " ".join(str(getattr(error, "error_string", error)).split()).removeprefix("Error : ").rstrip(".")


def _behind_id3(data: bytes | mmap.mmap) -> int:
    begin = 0
    while data[begin : begin + 3] == b"ID3" and begin + 10 <= len(data):
        size = 0
        for byte in data[begin + 6 : begin + 10]:
            size = size << 7 | byte & 0x7F
        begin += 10 + size
    return begin


def readable(text: str) -> str:
    """A name for people: bytes that are not UTF-8 as \\xNN."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
