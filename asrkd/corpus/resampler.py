"""The one rule of resampling, for whole signals and streams (and by `lhotse_backend` for what lhotse reads): torchaudio's filter, in bounded memory.

Pairs of rates that share little (44,101 and 16,000 Hz) are left to `SparseResampler`, which has the same filter.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torchaudio
from torch import Tensor

from asrkd.corpus.sparse_resampler import ROLLOFF, ZERO_CROSSINGS, SparseResampler, SparseStreamResampler, half_width

# Numbers in torchaudio's filter, 8 bytes each and several times as much while it is made. The rates that audio has in practice take
# at most 0.3 million for 16 kHz (11.025 kHz), and keep their samples to the bit.
_LARGEST_FILTER = 1 << 20


def is_sparse(native: int, sampling_rate: int) -> bool:
    """Whether torchaudio's filter for two rates would be too large."""
    shared = math.gcd(native, sampling_rate)
    period, phases = native // shared, sampling_rate // shared
    return phases * (period + 2 * half_width(period, phases)) > _LARGEST_FILTER


def resample(samples: Tensor, native: int, sampling_rate: int) -> Tensor:
    """(..., num_samples) float32 -> (..., ceil(num_samples * sampling_rate / native))."""
    if is_sparse(native, sampling_rate):
        return sparse_resampler(native, sampling_rate)(samples)
    return torchaudio.functional.resample(samples, native, sampling_rate)


@lru_cache(maxsize=4)
def sparse_resampler(native: int, sampling_rate: int) -> SparseResampler:
    """A `SparseResampler`, kept for the next signal."""
    return SparseResampler(native, sampling_rate)


class StreamResampler:
    """Samples at another rate, delayed by the filter and, where torchaudio resamples, by two periods of the two rates (1 / their greatest common divisor:
    10 ms for 44.1 and 16 kHz).

    All that `accept` and `finish` return, joined, is `resample` of all samples.
    """

    def __init__(self, native: int, sampling_rate: int) -> None:
        self._sparse = SparseStreamResampler(native, sampling_rate) if is_sparse(native, sampling_rate) else None
        shared = math.gcd(native, sampling_rate)
        self._native, self._rate = native // shared, sampling_rate // shared
        width = half_width(self._native, self._rate)
        # Of the signal before and behind what is returned; the first in whole steps of the filter, which so falls on the same samples.
        self._before = math.ceil(width / self._native) * self._native
        self._behind = width + self._native
        self._held = torch.zeros(0)
        # Samples of `held` that are there for the filter alone.
        self._context = 0

    def accept(self, samples: Tensor) -> Tensor:
        """(num_samples,) float32 further samples -> those that are complete."""
        if self._sparse is not None:
            return self._sparse.accept(samples)
        if self._native == self._rate:
            return samples
        self._held = torch.cat([self._held, samples])
        steps = max(0, len(self._held) - self._behind - self._context) // self._native
        if not steps:
            return samples[:0]
        end = self._context + steps * self._native
        resampled = self._resampled(end)
        kept = max(0, end - self._before)
        self._held, self._context = self._held[kept:], end - kept
        return resampled

    def finish(self) -> Tensor:
        """The rest. What comes then begins another stream."""
        if self._sparse is not None:
            return self._sparse.finish()
        resampled = self._resampled(None) if len(self._held) > self._context else self._held[:0]
        self._held, self._context = torch.zeros(0), 0
        return resampled

    def _resampled(self, end: int | None) -> Tensor:
        """From the end of the context to `end`, which is a whole number of steps, or to the end of the stream."""
        whole = torchaudio.functional.resample(
            self._held, self._native, self._rate, lowpass_filter_width=ZERO_CROSSINGS, rolloff=ROLLOFF
        )
        until = None if end is None else end // self._native * self._rate
        return whole[self._context // self._native * self._rate : until]
