"""The filterbank against lhotse's, and against a plain computation in double precision."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse.features.kaldi.layers import Wav2LogFilterBank, create_frame_window, get_mel_banks, next_power_of_2

from asrkd.corpus.filterbank import Filterbank

torch.set_num_threads(1)


def noise(count: int, seed: int = 0, offset: float = 0.0) -> torch.Tensor:
    return 0.1 * torch.randn(count, generator=torch.Generator().manual_seed(seed)) + offset


def in_double(filterbank: Filterbank, samples: torch.Tensor) -> np.ndarray:
    """Kaldi's steps, window by window: mean, pre-emphasis, Povey window, FFT, filters, logarithm."""
    size = next_power_of_2(filterbank.window)
    shape = create_frame_window(filterbank.window, "povey").double().numpy()
    filters, _ = get_mel_banks(
        filterbank.num_mels, size, filterbank.sampling_rate, filterbank.low_freq, filterbank.high_freq
    )
    values, rows = samples.double().numpy() * 32768.0, []
    for begin in range(0, len(values) - filterbank.window + 1, filterbank.shift):
        window = values[begin : begin + filterbank.window]
        window = window - window.mean()
        window = window - 0.97 * np.concatenate([window[:1], window[:-1]])
        power = np.abs(np.fft.rfft(window * shape, size))[:-1] ** 2
        rows.append(np.log(np.maximum(filters.double().numpy() @ power, np.finfo(np.float32).eps)))
    return np.array(rows).reshape(-1, filterbank.num_mels)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(
        [(16000, 400, 160), (8000, 200, 80), (11025, 275, 110), (44100, 1102, 441), (16000, 401, 97), (16000, 100, 160)]
    ),
    st.integers(0, 60_000),
    st.sampled_from([0.0, 0.01, -0.4]),
    st.integers(0, 9),
)
def test_it_is_kaldis(sizes: tuple[int, int, int], count: int, offset: float, seed: int) -> None:
    filterbank = Filterbank(*sizes, num_mels=23, low_freq=20.0, high_freq=-400.0, full_scale=32768.0)
    samples = noise(count, seed, offset)
    found = filterbank(samples).numpy()
    expected = in_double(filterbank, samples)
    assert found.shape == expected.shape
    if len(expected):
        # Float32 rounds the amplitudes of a window by its largest: a filter in a dip is as much less exact (lhotse's likewise).
        dip = np.exp((expected.max(axis=1, keepdims=True) - expected) / 2)
        # A constant of 13,000 that is taken away leaves its own rounding.
        assert (np.abs(found - expected) <= (1e-3 if offset else 2e-5) + 5e-7 * dip).all()


@pytest.mark.parametrize("num_mels,high_freq", [(64, 0.0), (80, -400.0)])
def test_it_is_as_exact_as_lhotses(num_mels: int, high_freq: float) -> None:
    filterbank, samples = Filterbank(16000, 400, 160, num_mels, 20.0, high_freq, 32768.0), noise(160_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = Wav2LogFilterBank(num_filters=num_mels, low_freq=20.0, high_freq=high_freq, snip_edges=True)
    expected, lhotses = in_double(filterbank, samples), layer(samples[None] * 32768.0)[0].numpy()
    found = filterbank(samples).numpy()
    assert np.abs(found - expected).max() <= max(1e-4, 2 * np.abs(lhotses - expected).max())
    assert np.abs(found - expected).mean() < 1e-5


def test_silence_is_at_the_floor() -> None:
    found = Filterbank(16000, 400, 160, 64, 20.0, 0.0, 32768.0)(torch.zeros(1600))
    assert torch.equal(found, torch.full_like(found, float(np.log(np.finfo(np.float32).eps))))


def test_the_samples_are_left_as_they_are() -> None:
    samples = noise(5000)
    before = samples.clone()
    Filterbank(16000, 400, 160, 64, 20.0, 0.0, 32768.0)(samples)
    assert torch.equal(samples, before)


def test_its_arrays_are_a_threads_own_and_leave_no_trace() -> None:
    wide, narrow = (
        Filterbank(16000, 400, 160, 64, 20.0, 0.0, 32768.0),
        Filterbank(8000, 200, 80, 23, 20.0, 0.0, 32768.0),
    )
    recordings = [noise(count, seed) for seed, count in enumerate([90_000, 1_000, 43_000, 400, 90_000])]
    alone = [wide(samples) for samples in recordings]
    narrow(recordings[0])
    with torch.inference_mode():
        assert all(torch.equal(wide(samples), one) for samples, one in zip(recordings, alone, strict=True))
        narrow(recordings[0])
    assert all(torch.equal(wide(samples), one) for samples, one in zip(recordings, alone, strict=True))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(wide, recordings * 8))
    assert all(torch.equal(one, two) for one, two in zip(together, alone * 8, strict=True))
