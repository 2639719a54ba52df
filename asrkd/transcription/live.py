"""Words while they are spoken: audio as it comes in, and what a recognizer makes of it at which time."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
import torch
from lhotse.cut.set import deserialize_cut
from torch import Tensor

from asrkd.corpus.cut_json import CutJson
from asrkd.corpus.resampler import StreamResampler
from asrkd.decoding.live import LiveRecognizer
from asrkd.errors import ConfigError, CorpusError, DependencyError
from asrkd.extras import import_optional
from asrkd.segmentation.samples import blocks

# Chunks of a microphone that may wait before audio is lost.
_WAITING = 1000


@dataclass(frozen=True)
class LiveText:
    """What is known after a chunk of audio.

    Attributes:
        words: of the running utterance, or of the one that has just ended; tokens, where the search finds those.
        ended: whether the utterance has ended.
        start, end: seconds of audio from the stream's beginning to the utterance's, and to the end of this chunk.
        lag: seconds from the end of this chunk, as it was spoken, to this result.
        rtfx: seconds of audio over seconds of computing, so far.
    """

    words: tuple[str, ...]
    ended: bool
    start: float
    end: float
    lag: float
    rtfx: float


def recognize(recognizer: LiveRecognizer, chunks: Iterator[Tensor], *, pace: bool = False) -> Iterator[LiveText]:
    """What the recognizer makes of the audio after each chunk; the last one is of the stream's end.

    A chunk is there at the time of its last sample and waits until the one before has been computed; so lags are those of a microphone, also
    where the audio comes from a file as fast as it can be read.

    Args:
        chunks: (num_samples,) float32 samples at the rate of the model's front end.
        pace: take each chunk at the time of its last sample, no sooner, by the clock.

    Raises:
        CorpusError: samples that are not finite, or no path survives the beam.
    """
    rate = recognizer.model.front_end.sampling_rate
    began = time.monotonic()
    heard = free = computing = start = 0.0
    for chunk in chunks:
        heard += len(chunk) / rate
        if pace:
            time.sleep(max(0.0, began + heard - time.monotonic()))
        since = time.perf_counter()
        found = recognizer.accept(chunk)
        took = time.perf_counter() - since
        computing += took
        free = max(free, heard) + took
        yield LiveText(found.words, found.ended, start, heard, free - heard, heard / max(computing, 1e-9))
        if found.ended:
            start = heard
    since = time.perf_counter()
    found = recognizer.finish()
    took = time.perf_counter() - since
    lag = max(free, heard) + took - heard
    yield LiveText(found.words, True, start, heard, lag, heard / max(computing + took, 1e-9))


def of_recording(recording: CutJson, sampling_rate: int, chunk: int) -> Iterator[Tensor]:
    """Chunks of `chunk` samples of a recording, in memory that does not grow with its length.

    Raises:
        CorpusError: it cannot be read.
    """
    if "unreadable" in recording:
        raise CorpusError(f"{recording['id']!r}: {recording['unreadable']}")
    waiting = torch.zeros(0)
    for block in blocks(deserialize_cut(recording), sampling_rate):
        samples = torch.cat([waiting, torch.from_numpy(block)])
        ready = len(samples) - len(samples) % chunk
        yield from samples[:ready].split(chunk) if ready else ()
        waiting = samples[ready:]
    if len(waiting):
        yield waiting


def of_pcm(stream: BinaryIO, native: int, sampling_rate: int, seconds: float) -> Iterator[Tensor]:
    """Raw signed 16-bit little-endian samples of one channel, at most `seconds` at a time.

    Args:
        native: its sampling rate.

    Raises:
        CorpusError: the stream ends within a sample.
    """
    resampler = StreamResampler(native, sampling_rate)
    size = 2 * max(1, round(seconds * native))
    half = b""  # of a sample: a pipe may be read anywhere
    while part := stream.read(size):
        part = half + part
        half = part[len(part) & ~1 :]
        samples = np.frombuffer(part[: len(part) & ~1], "<i2").astype(np.float32) / 32768
        if len(resampled := resampler.accept(torch.from_numpy(samples))):
            yield resampled
    if half:
        raise CorpusError(
            "the raw audio ends within a sample: it has an odd number of bytes, but signed 16-bit samples of one channel have two each; "
            "write it so (ffmpeg -f s16le -ac 1 -ar RATE)"
        )
    if len(rest := resampler.finish()):
        yield rest


def of_microphone(sampling_rate: int, seconds: float, device: str | None = None) -> Iterator[Tensor]:
    """The microphone, by sounddevice (PortAudio), until the program is interrupted.

    Args:
        device: its number or a part of its name; None for the system's own choice.

    Raises:
        DependencyError: sounddevice or PortAudio is not installed.
        ConfigError: there is no such device, or it does not record at this rate.
        CorpusError: audio was lost, because computing fell behind by minutes.
    """
    sounddevice = _import_sounddevice()
    chunks: queue.Queue[bytes] = queue.Queue(_WAITING)
    lost: list[str] = []

    def record(data: Any, frames: int, when: Any, status: Any) -> None:
        try:
            chunks.put_nowait(bytes(data))
        except queue.Full:
            lost.append(
                "the recognizer fell behind the microphone, and audio was lost; take a smaller model or beam, or a longer --chunk"
            )
        if status:
            lost.append(f"the microphone lost audio ({status})")

    name = int(device) if device is not None and device.isdecimal() else device
    try:
        stream = sounddevice.RawInputStream(
            samplerate=sampling_rate,
            blocksize=round(seconds * sampling_rate),
            device=name,
            channels=1,
            dtype="int16",
            callback=record,
        )
    except Exception as error:  # PortAudioError, and ValueError for a name
        raise ConfigError(
            f"the microphone {'of the system' if device is None else repr(device)} cannot be opened at {sampling_rate} Hz ({' '.join(str(error).split())}); "
            "python -m sounddevice lists the devices, --input names one; or pipe raw audio to `asrkd live SPEC -`"
        ) from None
    with stream:
        while True:
            part = chunks.get()
            if lost:
                raise CorpusError(lost[0])
            yield torch.from_numpy(np.frombuffer(part, np.int16).astype(np.float32) / 32768)


def _import_sounddevice() -> Any:
    try:
        return import_module("sounddevice")
    except OSError as error:
        raise DependencyError(
            f"the microphone needs the library PortAudio ({error}): install it (Debian: libportaudio2), or pipe raw audio to `asrkd live SPEC -`"
        ) from None
    except Exception:  # told with its extra
        return import_optional("sounddevice", "the microphone needs the package sounddevice")
