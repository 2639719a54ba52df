"""Resampling between any two rates: torchaudio's samples, whole or block by block, in memory that does not depend on the rates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lhotse import Recording

from asrkd.corpus.audio import read_audio
from asrkd.corpus.resampler import StreamResampler, is_sparse, resample
from asrkd.corpus.sparse_resampler import SparseResampler, SparseStreamResampler
from asrkd.segmentation.samples import blocks

SHARING_LITTLE = (7999, 11127, 15999, 16001, 44101, 47999, 96001)
SIZES = st.lists(st.integers(0, 3000), max_size=8)


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 2000), st.integers(0, 100))
def test_the_samples_are_torchaudios(native: int, rate: int, count: int, seed: int) -> None:
    assume(native != rate)
    samples = noise(count, seed).repeat(2, 1)
    expected = torchaudio.functional.resample(samples.double(), native, rate)
    outputs = SparseResampler(native, rate)(samples)
    # torchaudio computes the length in single precision, which is one too many here and there.
    assert outputs.shape == (2, math.ceil(count * rate / native)) and 0 <= expected.shape[1] - outputs.shape[1] <= 1
    torch.testing.assert_close(outputs.double(), expected[:, : outputs.shape[1]], rtol=0, atol=3e-6)


@settings(max_examples=30)
@given(st.integers(1, 100_000), st.sampled_from((8000, 16000, 44100)), SIZES, st.integers(0, 100))
def test_any_blocks_give_the_whole(native: int, rate: int, sizes: list[int], seed: int) -> None:
    samples = noise(sum(sizes), seed)
    resampler = SparseStreamResampler(native, rate)
    for _ in range(2):  # one that has finished starts afresh
        parts = [resampler.accept(block) for block in samples.split(sizes)] + [resampler.finish()]
        torch.testing.assert_close(torch.cat(parts), SparseResampler(native, rate)(samples), rtol=0, atol=1e-6)


@pytest.mark.parametrize("native", SHARING_LITTLE)
def test_a_sine_is_a_sine_with_little_delay(native: int) -> None:
    rate, frequency = 16000, 0.35 * min(native, 16000)
    sine = torch.sin(2 * math.pi * frequency * torch.arange(native).double() / native).float()
    expected = torch.sin(2 * math.pi * frequency * torch.arange(rate).double() / rate).float()
    inner = slice(100, -100)  # the signal ends, and the filter with it
    torch.testing.assert_close(resample(sine, native, rate)[inner], expected[inner], rtol=0, atol=0.01)
    stream, outputs = StreamResampler(native, rate), []
    for number, block in enumerate(sine.split(native // 100)):
        outputs.append(stream.accept(block))
        heard = min(native, (number + 1) * (native // 100)) / native
        assert sum(map(len, outputs)) / rate >= heard - 8 / min(native, rate)
    torch.testing.assert_close(torch.cat([*outputs, stream.finish()])[inner], expected[inner], rtol=0, atol=0.01)


@pytest.mark.parametrize(
    "native", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 37800, 44100, 48000, 88200, 96000, 192000]
)
@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_rates_in_use_keep_torchaudios_own_samples(native: int, rate: int) -> None:
    assert not is_sparse(native, rate)
    samples = noise(3000)
    assert torch.equal(resample(samples, native, rate), torchaudio.functional.resample(samples, native, rate))


@pytest.mark.parametrize("native", [*SHARING_LITTLE, 2**31 - 1])
def test_a_file_of_any_rate_is_read_in_little_memory(tmp_path: Path, native: int) -> None:
    seconds = min(2.0, 1e6 / native)
    samples = (0.1 * noise(round(native * seconds))).numpy()
    soundfile.write(tmp_path / "a.wav", samples, native, subtype="FLOAT")
    recording = Recording.from_file(tmp_path / "a.wav")
    resampled = recording.resample(16000).to_cut()
    faster = recording.perturb_speed(16001 / 16000).to_cut()
    readings = [lambda: read_audio(recording.to_cut(), 16000)]
    if native < 2**30:
        readings += [
            lambda: np.concatenate(list(blocks(recording.to_cut(), 16000))),
            lambda: read_audio(resampled, 16000),
            lambda: read_audio(faster, native),
        ]
    for number, reading in enumerate(readings):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted again, from what is held now
        before = resident("VmRSS")
        heard = reading()
        assert resident("VmHWM") - before < 250, number
        if number < 3:
            assert abs(len(heard) - seconds * 16000) <= 1
            expected = resample(torch.from_numpy(samples), native, 16000).numpy()[: len(heard)]
            np.testing.assert_allclose(heard[: len(expected)], expected, rtol=0, atol=1e-6)


def resident(name: str) -> float:
    """Megabytes."""
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(facts[name].split()[0]) / 1024
