"""Kaldi's log-mel filterbank, as one real FFT and one matrix product for many windows at a time.

It computes what lhotse's `Wav2LogFilterBank` computes, whose window and filters it uses, without making a copy of the
windows for each step before the FFT: pre-emphasis is a filter of the whole signal, the mean of a window comes
from sums over blocks, and the squares of real and imaginary parts go into the matrix product as they are.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from lhotse.features.kaldi.layers import create_frame_window, get_mel_banks, next_power_of_2
from torch import Tensor

_PREEMPHASIS = 0.97
_FLOOR = torch.finfo(torch.float32).eps
# Windows in one FFT: few enough to stay in the processor's cache. Fixed, because sums may round otherwise.
_WINDOWS = 256


@dataclass(frozen=True)
class Filterbank:
    """Log-mel energies of windows of samples.

    Attributes:
        sampling_rate: hertz.
        window, shift: samples in a window, and from one window to the next. Only windows that fit whole are computed
            (Kaldi's `snip-edges=true`).
        num_mels: mel bins.
        low_freq, high_freq: edges in hertz; a `high_freq` of 0 or less is relative to Nyquist.
        full_scale: what a sample of 1.0 counts as; it only matters for the floor of the logarithm. Kaldi works on
            16-bit values, icefall and sherpa-onnx on samples in -1..1.
    """

    sampling_rate: int
    window: int
    shift: int
    num_mels: int
    low_freq: float
    high_freq: float
    full_scale: float = 32768.0

    def __call__(self, samples: Tensor) -> Tensor:
        """(num_samples,) float in -1..1 -> (num_windows, num_mels) float32."""
        samples = samples.to(torch.float32)
        count = (len(samples) - self.window) // self.shift + 1 if len(samples) >= self.window else 0
        energies = samples.new_empty(count, self.num_mels)
        if not count:
            return energies
        samples = samples[: (count - 1) * self.shift + self.window]
        shape, filters = _constants(self, samples.device)
        # x[n] - a x[n-1]; the first sample of a window is its own predecessor.
        emphasized = torch.empty_like(samples)
        torch.sub(samples[1:], samples[:-1], alpha=_PREEMPHASIS, out=emphasized[1:])
        emphasized[0] = 0.0
        windows = emphasized.unfold(0, self.window, self.shift)
        firsts = (1.0 - _PREEMPHASIS) * samples[: (count - 1) * self.shift + 1 : self.shift]
        # What pre-emphasis leaves of a window's mean.
        offsets = (1.0 - _PREEMPHASIS) * self._means(samples)
        padded = samples.new_zeros(min(count, _WINDOWS), next_power_of_2(self.window))
        for begin in range(0, count, _WINDOWS):
            rows = slice(begin, min(begin + _WINDOWS, count))
            size = rows.stop - begin
            frames = padded[:size, : self.window]
            torch.sub(windows[rows], offsets[rows, None], out=frames)
            frames[:, 0] = firsts[rows] - offsets[rows]
            frames.mul_(shape)
            parts = torch.view_as_real(torch.fft.rfft(padded[:size])).square_()
            torch.mm(parts.reshape(size, -1), filters, out=energies[rows])
        return energies.clamp_min_(_FLOOR).log_()

    def _means(self, samples: Tensor) -> Tensor:
        """(num_windows,) mean of each window, from sums over blocks that windows share."""
        block = math.gcd(self.window, self.shift)
        sums = samples[: len(samples) // block * block].view(-1, block).sum(dim=1)
        return sums.unfold(0, self.window // block, self.shift // block).sum(dim=1) / self.window


@functools.lru_cache(maxsize=32)
def _constants(filterbank: Filterbank, device: torch.device) -> tuple[Tensor, Tensor]:
    """(window,) the window's shape, and (fft_length + 2, num_mels) the filters, each row for a real or imaginary part."""
    shape = create_frame_window(filterbank.window, window_type="povey") * filterbank.full_scale
    filters, _ = get_mel_banks(
        filterbank.num_mels,
        next_power_of_2(filterbank.window),
        filterbank.sampling_rate,
        filterbank.low_freq,
        filterbank.high_freq,
    )
    # No filter reaches the bin at Nyquist.
    filters = torch.nn.functional.pad(filters.to(torch.float32), (0, 1)).T
    return shape.to(device), filters.repeat_interleave(2, dim=0).contiguous().to(device)
