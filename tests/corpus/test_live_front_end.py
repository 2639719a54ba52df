from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.live_front_end import LiveFrontEnd
from asrkd.errors import ConfigError, CorpusError


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    st.sampled_from(["causal", "none"]),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([(25.0, 10.0), (10.0, 10.0), (8.0, 20.0)]),
)
def test_chunks_of_any_size_make_the_features_of_the_whole(
    sizes: list[int], mean_norm: str, stack: int, stride: int, window_and_shift: tuple[float, float]
) -> None:
    length, shift = window_and_shift
    front_end = FrontEnd(
        8000, 20, frame_length_ms=length, frame_shift_ms=shift, stack=stack, stride=stride, mean_norm=mean_norm
    )
    samples = 0.1 * torch.randn(sum(sizes), generator=torch.Generator().manual_seed(0))
    live = LiveFrontEnd(front_end)
    parts, read = [], 0
    for chunk in samples.split(sizes):
        parts.append(live.accept(chunk))
        read += len(chunk)
        # As early as the frame law allows.
        assert sum(map(len, parts)) == front_end.frame_law().num_features(read)
    torch.testing.assert_close(torch.cat(parts), front_end(samples), rtol=0, atol=2e-4)


def test_what_a_stream_cannot_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="mean_norm is 'utterance'.*'causal' or 'none'"):
        LiveFrontEnd(FrontEnd())
    with pytest.raises(CorpusError, match="NaN"):
        LiveFrontEnd(FrontEnd(mean_norm="none")).accept(torch.tensor([0.0, torch.nan]))
