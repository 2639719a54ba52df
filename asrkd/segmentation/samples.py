"""The samples of a cut in blocks, at the rate of a detector, in memory that does not grow with its length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torchaudio
from lhotse.cut import Cut
from numpy.typing import NDArray

from asrkd.corpus.audio import read_audio

BLOCK_SECONDS = 60
# Of the signal to either side of a block that the resampler sees; its filter is 1,000 times shorter.
_CONTEXT_SECONDS = 1


def blocks(cut: Cut, sampling_rate: int) -> Iterator[NDArray[np.float32]]:
    """Float32 samples of one channel, block by block; joined they are the resampled signal of the whole cut.

    Raises:
        CorpusError: as `asrkd.corpus.audio.read_audio`.
    """
    native = cut.sampling_rate
    held = np.zeros(0, np.float32)
    held_from = given = read = 0  # in seconds
    while read < cut.duration:
        rest = cut.duration - read
        part = (
            cut if not read and rest <= BLOCK_SECONDS else cut.truncate(offset=read, duration=min(BLOCK_SECONDS, rest))
        )
        held = np.concatenate([held, read_audio(part, native)])
        read += BLOCK_SECONDS
        samples = _resample(held, native, sampling_rate)[(given - held_from) * sampling_rate :]
        if read >= cut.duration:
            yield samples
            return
        until = read - _CONTEXT_SECONDS
        yield samples[: (until - given) * sampling_rate]
        given = until
        held = held[(until - _CONTEXT_SECONDS - held_from) * native :]
        held_from = until - _CONTEXT_SECONDS


def _resample(samples: NDArray[np.float32], native: int, sampling_rate: int) -> NDArray[np.float32]:
    if native == sampling_rate:
        return samples
    resampled: NDArray[np.float32] = torchaudio.functional.resample(
        torch.from_numpy(samples), native, sampling_rate
    ).numpy()
    return resampled
