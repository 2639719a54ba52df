"""Whisper's log-mel: what transformers' `WhisperFeatureExtractor` computes of an utterance, without the padding to 30 s."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_FLOOR = 1e-10
# Decades below the loudest bin of the utterance that are kept.
_RANGE = 8.0


def whisper_log_mel(
    samples: Tensor, *, sampling_rate: int, window: int, shift: int, num_mels: int, band: tuple[float, float]
) -> Tensor:
    """(num_samples,) float in -1..1 -> (num_windows, num_mels) float32: a window is centered on every `shift`-th sample.

    Hann windows, power, Slaney's mel filters, the decimal logarithm, nothing more than 8 decades below the utterance's
    loudest bin (so every frame depends on the whole utterance), then (x + 4) / 4 (Radford et al. 2022, section 2.2).
    Before the first sample the signal is mirrored; it is followed by silence.
    """
    half = window // 2
    followed = torch.nn.functional.pad(samples.to(torch.float32), (0, window + shift))
    padded = torch.cat([followed[1 : half + 1].flip(0), followed])
    # All windows that hold a sample, also those centered after the last one: the loudest bin may be theirs.
    reaching = -(-(len(samples) + half) // shift)
    padded = padded[: (reaching - 1) * shift + window]
    shape, filters = _constants(sampling_rate, window, num_mels, band, samples.device)
    power = torch.stft(padded, window, shift, window=shape, center=False, return_complex=True).abs().square()
    decades = (power.T @ filters).clamp_min_(_FLOOR).log10_()
    loudest = decades.max()
    return decades[: -(-len(samples) // shift)].clamp_min(loudest - _RANGE).add_(4.0).div_(4.0)


@functools.lru_cache(maxsize=32)
def _constants(
    sampling_rate: int, window: int, num_mels: int, band: tuple[float, float], device: torch.device
) -> tuple[Tensor, Tensor]:
    """(window,) the window's shape, and (window // 2 + 1, num_mels) the filters."""
    from torchaudio.functional import melscale_fbanks  # as in `asrkd.corpus.filterbank`: imported where it is needed

    filters = melscale_fbanks(window // 2 + 1, *band, num_mels, sampling_rate, norm="slaney", mel_scale="slaney")
    return torch.hann_window(window, device=device), filters.to(device)
