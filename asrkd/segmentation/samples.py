"""The samples of a cut in blocks, at the rate of a detector, in memory that does not grow with its length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from lhotse.cut import Cut
from numpy.typing import NDArray

from asrkd.corpus.audio import read_audio
from asrkd.corpus.resampler import StreamResampler

BLOCK_SECONDS = 60


def blocks(cut: Cut, sampling_rate: int) -> Iterator[NDArray[np.float32]]:
    """Float32 samples of one channel, block by block; joined they are the resampled signal of the whole cut.

    Raises:
        CorpusError: as `asrkd.corpus.audio.read_audio`.
    """
    resampler = StreamResampler(cut.sampling_rate, sampling_rate)
    read = 0
    while read < cut.duration:
        rest = cut.duration - read
        part = (
            cut if not read and rest <= BLOCK_SECONDS else cut.truncate(offset=read, duration=min(BLOCK_SECONDS, rest))
        )
        read += BLOCK_SECONDS
        yield resampler.accept(torch.from_numpy(read_audio(part, cut.sampling_rate))).numpy()
    yield resampler.finish().numpy()
