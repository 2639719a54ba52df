from __future__ import annotations

import math

import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.corpus.resampler import StreamResampler

RATES = st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000])


@settings(max_examples=40, deadline=None)
@given(RATES, RATES, st.lists(st.integers(0, 3000), max_size=12), st.integers(0, 100))
def test_any_blocks_give_the_whole_resampled(native: int, rate: int, sizes: list[int], seed: int) -> None:
    samples = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(seed))
    resampler = StreamResampler(native, rate)
    for _ in range(2):  # one that has finished starts afresh
        parts = [resampler.accept(block) for block in samples.split(sizes)] + [resampler.finish()]
        whole = torchaudio.functional.resample(samples, native, rate) if len(samples) else samples
        assert torch.cat(parts).shape == whole.shape
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5)


@settings(max_examples=15)
@given(RATES, RATES)
def test_samples_come_with_little_delay(native: int, rate: int) -> None:
    resampler, returned = StreamResampler(native, rate), 0
    delay = 2 / math.gcd(native, rate) + 12 / min(native, rate)
    for number in range(1, 30):
        returned += len(resampler.accept(torch.zeros(native // 100)))
        assert returned / rate >= number * (native // 100) / native - delay
