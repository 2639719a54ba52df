from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.corpus.front_end import FrontEnd, causal_mean_state, subtract_causal_mean
from asrkd.corpus.live_front_end import LiveFrontEnd
from asrkd.errors import ConfigError, CorpusError


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    st.sampled_from(["causal", "none"]),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([(25.0, 10.0), (10.0, 10.0), (8.0, 20.0), (10.125, 4.625)]),
    st.booleans(),
)
def test_chunks_of_any_size_make_the_features_of_the_whole(
    sizes: list[int], mean_norm: str, stack: int, stride: int, window_and_shift: tuple[float, float], snip_edges: bool
) -> None:
    length, shift = window_and_shift
    front_end = FrontEnd(
        8000,
        20,
        frame_length_ms=length,
        frame_shift_ms=shift,
        stack=stack,
        stride=stride,
        mean_norm=mean_norm,
        snip_edges=snip_edges,
    )
    samples = 0.1 * torch.randn(sum(sizes), generator=torch.Generator().manual_seed(0))
    live, law = LiveFrontEnd(front_end), front_end.frame_law()
    parts, read = [], 0
    for chunk in samples.split(sizes):
        parts.append(live.accept(chunk))
        read += len(chunk)
        # As early as the samples of a window are there.
        windows = max(0, 1 + (read - law.begin - law.window) // law.shift) if read >= -law.begin else 0
        assert sum(map(len, parts)) == law.num_stacked(windows)
    parts.append(live.finish())
    assert len(live.finish()) == 0
    torch.testing.assert_close(torch.cat(parts), front_end(samples), rtol=0, atol=2e-4)


def test_what_a_stream_cannot_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="mean_norm is 'utterance'.*'causal' or 'none'"):
        LiveFrontEnd(FrontEnd())
    with pytest.raises(CorpusError, match="NaN"):
        LiveFrontEnd(FrontEnd(mean_norm="none")).accept(torch.tensor([0.0, torch.nan]))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.permutations(range(3)))
def test_running_means_of_streams_at_different_places_are_those_of_each(sizes: list[int], order: list[int]) -> None:
    """Against a loop over frames; the streams of a batch have read different numbers of frames, and change their rows between chunks."""
    generator = torch.Generator().manual_seed(0)
    before = [5.0 * torch.randn(1, count, 4, generator=generator) for count in (0, 3, 8)]
    states = [subtract_causal_mean(frames, causal_mean_state(1, 4))[1] for frames in before]
    state = tuple(torch.cat(parts) for parts in zip(*states, strict=True))
    read = [frames[0] for frames in before]
    for size in sizes:
        chunk = 5.0 * torch.randn(3, size, 4, generator=generator)
        found, state = subtract_causal_mean(chunk, state)
        for row in range(3):
            for t in range(size):
                read[row] = torch.cat([read[row], chunk[row, t : t + 1]])
                torch.testing.assert_close(found[row, t], chunk[row, t] - read[row].mean(dim=0), rtol=0, atol=1e-5)
        state, read = tuple(part[list(order)] for part in state), [read[row] for row in order]
    assert state[1].tolist() == [len(frames) for frames in read]
