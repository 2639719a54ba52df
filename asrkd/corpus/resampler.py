"""Resampling of a stream: block by block what torchaudio's resampler makes of the whole."""

from __future__ import annotations

import math

import torch
import torchaudio
from torch import Tensor

# Zero crossings to a side of torchaudio's filter, and its bandwidth.
_WIDTH, _ROLLOFF = 6, 0.99


class StreamResampler:
    """Samples at another rate, delayed by at most two periods of the two rates (1 / their greatest common divisor: 10 ms for 44.1 and 16 kHz) and the filter.

    All that `accept` and `finish` return, joined, is `torchaudio.functional.resample` of all samples.
    """

    def __init__(self, native: int, sampling_rate: int) -> None:
        shared = math.gcd(native, sampling_rate)
        self._native, self._rate = native // shared, sampling_rate // shared
        width = math.ceil(_WIDTH * self._native / (min(self._native, self._rate) * _ROLLOFF))
        # Of the signal before and behind what is returned; the first in whole steps of the filter, which so falls on the same samples.
        self._before = math.ceil(width / self._native) * self._native
        self._behind = width + self._native
        self._held = torch.zeros(0)
        # Samples of `held` that are there for the filter alone.
        self._context = 0

    def accept(self, samples: Tensor) -> Tensor:
        """(num_samples,) float32 further samples -> those that are complete."""
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
        resampled = self._resampled(None) if len(self._held) > self._context else self._held[:0]
        self._held, self._context = torch.zeros(0), 0
        return resampled

    def _resampled(self, end: int | None) -> Tensor:
        """From behind the context to `end`, which is a whole number of steps, or to the end of the stream."""
        whole = torchaudio.functional.resample(
            self._held, self._native, self._rate, lowpass_filter_width=_WIDTH, rolloff=_ROLLOFF
        )
        until = None if end is None else end // self._native * self._rate
        return whole[self._context // self._native * self._rate : until]
