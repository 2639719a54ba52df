"""Kaldi's log-mel filterbank, as one real FFT and a few matrix products for many windows at a time.

It computes what lhotse's `Wav2LogFilterBank` computes, whose window and filters it uses. What costs there is memory: a large
array is given back to the system when it is freed, and every page of the next one is a page fault. So windows go
through arrays that stay, a block at a time, small enough for the processor's cache; pre-emphasis is a filter of the signal, the mean
of a window comes from sums over parts that windows share, the squares of real and imaginary parts go into the matrix product as
they are, and low and high mel bins are separate products, because neither reads the other's frequencies.
"""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass

import torch
from torch import Tensor

PREEMPHASIS = 0.97
FLOOR = torch.finfo(torch.float32).eps
# Windows in one FFT, by the kind of device: few enough for a processor's cache, many enough for a GPU. Fixed, because sums may round otherwise.
_WINDOWS = {"cpu": 256}
_WINDOWS_ELSEWHERE = 16384
# Matrix products of neighboring mel bins.
_GROUPS = 4


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
    full_scale: float

    def __call__(self, samples: Tensor) -> Tensor:
        """(num_samples,) float in -1..1 -> (num_windows, num_mels) float32."""
        samples = samples.to(torch.float32)
        count = (len(samples) - self.window) // self.shift + 1 if len(samples) >= self.window else 0
        energies = samples.new_empty(count, self.num_mels)
        block = _WINDOWS.get(samples.device.type, _WINDOWS_ELSEWHERE)
        for begin in range(0, count, block):
            rows = energies[begin : begin + block]
            first = begin * self.shift
            self._energies(samples[first : first + (len(rows) - 1) * self.shift + self.window], rows)
        return energies.clamp_min_(FLOOR).log_()

    def _energies(self, samples: Tensor, energies: Tensor) -> None:
        """The mel energies of a block of windows, written to `energies` (num_windows, num_mels)."""
        shape, groups = _constants(self, samples.device)
        emphasized, padded = _workspace(self, samples.device, len(energies))
        # x[n] - a x[n-1]. What is before the first sample of a window does not matter: its weight is 0.
        torch.sub(samples[1:], samples[:-1], alpha=PREEMPHASIS, out=emphasized[1 : len(samples)])
        windows = emphasized.as_strided((len(energies), self.window), (self.shift, 1))
        # What pre-emphasis leaves of a window's mean.
        offsets = self._sums(samples).mul_((1.0 - PREEMPHASIS) / self.window)
        frames = padded[: len(energies)]
        torch.sub(windows, offsets[:, None], out=frames[:, : self.window])
        frames[:, : self.window].mul_(shape)
        parts = torch.view_as_real(torch.fft.rfft(frames)).square_().flatten(1)
        for bins, frequencies, filters in groups:
            torch.mm(parts[:, frequencies], filters, out=energies[:, bins])

    def _sums(self, samples: Tensor) -> Tensor:
        """(num_windows,) sum of each window, from sums over parts that windows share."""
        part = math.gcd(self.window, self.shift)
        sums = samples[: len(samples) // part * part].view(-1, part).sum(dim=1)
        return sums.unfold(0, self.window // part, self.shift // part).sum(dim=1)


class _Kept(threading.local):
    """The arrays of each thread, for the filterbank that it used last."""

    filterbank: Filterbank | None = None
    arrays: tuple[Tensor, Tensor]


_kept = _Kept()


def _workspace(filterbank: Filterbank, device: torch.device, windows: int) -> tuple[Tensor, Tensor]:
    """Zeros, or what the last block left: (num_samples,) for at least that many windows, and (windows, fft_length), 0 after each window."""
    if device.type != "cpu":  # where torch keeps freed memory itself
        return _arrays(filterbank, device, windows)
    if _kept.filterbank != filterbank:
        with torch.inference_mode(False):  # else they could not be written to outside of it
            _kept.arrays = _arrays(filterbank, device, _WINDOWS["cpu"])
        _kept.filterbank = filterbank
    return _kept.arrays


def _arrays(filterbank: Filterbank, device: torch.device, windows: int) -> tuple[Tensor, Tensor]:
    samples = torch.zeros((windows - 1) * filterbank.shift + filterbank.window, device=device)
    return samples, torch.zeros(windows, _fft_length(filterbank), device=device)


def _fft_length(filterbank: Filterbank) -> int:
    """The power of two that a window fits into."""
    return 1 << (filterbank.window - 1).bit_length()


@functools.lru_cache(maxsize=32)
def _constants(filterbank: Filterbank, device: torch.device) -> tuple[Tensor, list[tuple[slice, slice, Tensor]]]:
    """(window,) the window's shape, and the filters in groups: mel bins, the parts that they read, and (parts, bins) filters.

    Parts are the real and imaginary parts of frequencies, in turns.
    """
    # Here, because it takes half a second, and a process that reads stored features has no use for it.
    from lhotse.features.kaldi.layers import create_frame_window, get_mel_banks

    shape = create_frame_window(filterbank.window, window_type="povey") * filterbank.full_scale
    filters, _ = get_mel_banks(
        filterbank.num_mels,
        _fft_length(filterbank),
        filterbank.sampling_rate,
        filterbank.low_freq,
        filterbank.high_freq,
    )
    # No filter reaches the frequency at Nyquist, which is left out.
    weights = filters.to(torch.float32).T.repeat_interleave(2, dim=0)
    groups, begin = [], 0
    for columns in weights.tensor_split(_GROUPS, dim=1):
        read = columns.any(dim=1).nonzero()
        # A filter that is narrower than the distance of two frequencies may read none.
        first, last = (int(read[0]), int(read[-1]) + 1) if len(read) else (0, 1)
        bins = slice(begin, begin + columns.shape[1])
        groups.append((bins, slice(first, last), columns[first:last].contiguous().to(device)))
        begin = bins.stop
    return shape.to(device), groups
