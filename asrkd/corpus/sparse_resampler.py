"""torchaudio's resampler for pairs of rates that share little, in memory that does not depend on the rates.

Its filter has a row for each phase, rate / gcd of them, as long as the period, native / gcd samples, though all but a few
dozen of a row are zero: from 44,101 to 16,000 Hz that is 2.8 GB. Here only what is not zero is computed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Zero crossings to a side of torchaudio's filter, and its bandwidth.
ZERO_CROSSINGS, ROLLOFF = 6, 0.99
# Numbers in a table of all phases; filters with more are computed as they are needed.
_TABLE = 1 << 22
# Numbers that are computed at once.
_BLOCK = 1 << 20


def half_width(native: int, rate: int) -> int:
    """Samples at the native rate to either side of an output that its filter spans."""
    return math.ceil(ZERO_CROSSINGS * native / (min(native, rate) * ROLLOFF))


class SparseResampler:
    """`torchaudio.functional.resample` from a native rate to another one, up to rounding.

    Args:
        native, rate: hertz, whole numbers above 0.
    """

    def __init__(self, native: int, rate: int) -> None:
        shared = math.gcd(native, rate)
        self._native, self._rate = native // shared, rate // shared
        self._width = half_width(self._native, self._rate)
        has_table = self._rate * 2 * self._width <= _TABLE
        self._table = self._filters(torch.arange(self._rate)) if has_table else None

    def __call__(self, samples: Tensor) -> Tensor:
        """(..., num_samples) float32 -> (..., ceil(num_samples * rate / native))."""
        return self.between(samples, 0, 0, self.count(samples.shape[-1]))

    def count(self, num_samples: int) -> int:
        """Outputs of a whole signal."""
        return -(-num_samples * self._rate // self._native)

    def complete(self, num_samples: int) -> int:
        """Outputs that the first samples of a signal decide."""
        # The last one that an output needs is `_width` behind the one at or before it.
        return max(0, -((self._width - num_samples) * self._rate // self._native))

    def first_needed(self, output: int) -> int:
        """The first sample that an output and those behind it are made of; below 0 where it is before the signal."""
        return output * self._native // self._rate - self._width + 1

    def between(self, held: Tensor, first: int, begin: int, end: int) -> Tensor:
        """(..., end - begin) these outputs.

        Args:
            held: (..., num_samples) a part of the signal; what is outside it is zero.
            first: where in the signal it begins.
        """
        taps = 2 * self._width
        size = max(1, _BLOCK // taps)
        parts = [held[..., :0]]
        for start in range(begin, end, size):
            outputs = torch.arange(start, min(start + size, end))
            before = torch.div(outputs * self._native, self._rate, rounding_mode="floor") - self._width + 1
            low, high = int(before[0]) - first, int(before[-1]) + taps - first
            part = held[..., max(0, low) : max(0, high)]
            left = min(max(0, -low), high - low)
            part = torch.nn.functional.pad(part, (left, high - low - left - part.shape[-1]))
            phases = outputs % self._rate
            filters = self._filters(phases) if self._table is None else self._table[phases]
            windows = part.unfold(-1, taps, 1)[..., before - first - low, :]
            parts.append((windows * filters.to(held.dtype)).sum(dim=-1))
        return torch.cat(parts, dim=-1)

    def _filters(self, phases: Tensor) -> Tensor:
        """(num_phases, 2 width) float32 weights of the samples from `first_needed` on."""
        behind = (phases * self._native % self._rate).double() / self._rate
        at = torch.arange(1 - self._width, self._width + 1).double() - behind[:, None]
        # In zero crossings.
        at *= min(self._native, self._rate) * ROLLOFF / self._native
        at.clamp_(-ZERO_CROSSINGS, ZERO_CROSSINGS)
        hann = torch.cos(at * (math.pi / ZERO_CROSSINGS / 2)) ** 2
        scale = min(self._native, self._rate) * ROLLOFF / self._native
        return (torch.sinc(at) * hann * scale).float()


class SparseStreamResampler:
    """The same block by block, delayed by the filter alone: all that `accept` and `finish` return, joined, is what the resampler makes of the whole."""

    def __init__(self, native: int, rate: int) -> None:
        self._resampler = SparseResampler(native, rate)
        self._begin()

    def _begin(self) -> None:
        # What is held of the signal, where that begins, and how many outputs were returned.
        self._held, self._first, self._returned = torch.zeros(0), 0, 0

    def accept(self, samples: Tensor) -> Tensor:
        """(num_samples,) float32 further samples -> those that are complete."""
        self._held = torch.cat([self._held, samples])
        end = max(self._returned, self._resampler.complete(self._first + len(self._held)))
        outputs = self._resampler.between(self._held, self._first, self._returned, end)
        kept = min(max(0, self._resampler.first_needed(end) - self._first), len(self._held))
        self._held, self._first, self._returned = self._held[kept:].clone(), self._first + kept, end
        return outputs

    def finish(self) -> Tensor:
        """The rest. What comes then begins another stream."""
        end = self._resampler.count(self._first + len(self._held))
        outputs = self._resampler.between(self._held, self._first, self._returned, end)
        self._begin()
        return outputs
