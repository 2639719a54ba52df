from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.errors import ConfigError
from asrkd.streaming.plan import BatchConfig, EpochOrder

PRINT = "0123456789abcdef" * 2


def _order(sizes: np.ndarray, *, seed: int = 1, epoch: int = 0, fingerprint: str = PRINT, **limits: int) -> EpochOrder:
    chosen = {"max_frames": 200, "max_utterances": 8} | limits
    return EpochOrder(sizes, BatchConfig(**chosen), seed=seed, epoch=epoch, fingerprint=fingerprint)


def _batches(order: EpochOrder, lengths: np.ndarray, streams: int = 1) -> list[np.ndarray]:
    return [
        batch
        for stream in range(streams)
        for block in range(order.num_blocks(stream))
        for batch in order.batches(stream, block, lengths)
    ]


def _corpus(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of utterances, sizes of row groups."""
    rng = np.random.default_rng(seed)
    sizes = np.bincount(np.sort(rng.integers(0, 1 + size // 10, size)))
    return rng.integers(1, 101, size), sizes[sizes > 0]


@given(
    size=st.integers(1, 300),
    seed=st.integers(0, 99),
    block=st.integers(1, 400),
    most=st.integers(1, 20),
    streams=st.integers(1, 9),
)
@settings(max_examples=80, deadline=None)
def test_every_utterance_once_and_no_batch_over_budget(
    size: int, seed: int, block: int, most: int, streams: int
) -> None:
    lengths, sizes = _corpus(size, seed)
    order = _order(sizes, epoch=seed, max_utterances=most, block_utterances=block, streams=streams)
    batches = _batches(order, lengths, streams)
    assert sorted(np.concatenate(batches).tolist()) == list(range(size))
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert len(batch) * lengths[batch].max() <= 200


@given(size=st.integers(9, 300), streams=st.integers(1, 9), block=st.integers(1, 100))
@settings(max_examples=40, deadline=None)
def test_streams_have_equal_shares_and_blocks_are_no_larger_than_asked(size: int, streams: int, block: int) -> None:
    _, sizes = _corpus(size)
    order = _order(sizes, block_utterances=block, streams=streams)
    blocks = [[order.members(stream, one) for one in range(order.num_blocks(stream))] for stream in range(streams)]
    shares = [sum(map(len, one)) for one in blocks]
    assert max(shares) - min(shares) <= 1
    assert max(len(one) for stream in blocks for one in stream) <= block


def test_the_plan_is_a_pure_function_of_seed_epoch_and_fingerprint() -> None:
    lengths, sizes = _corpus(500)
    first = np.concatenate(_batches(_order(sizes), lengths))
    np.testing.assert_array_equal(first, np.concatenate(_batches(_order(sizes), lengths)))
    for change in ({"seed": 2}, {"epoch": 1}, {"fingerprint": "f" * 32}):
        assert not np.array_equal(first, np.concatenate(_batches(_order(sizes, **change), lengths)))  # type: ignore[arg-type]


def test_a_block_is_planned_without_the_blocks_before_it() -> None:
    lengths, sizes = _corpus(500)
    every = _order(sizes, block_utterances=50)
    for _ in range(every.num_blocks(0)):
        every.batches(0, _, lengths)
    alone = _order(sizes, block_utterances=50)
    for one, other in zip(every.batches(0, 7, lengths), alone.batches(0, 7, lengths), strict=True):
        np.testing.assert_array_equal(one, other)


def test_utterances_of_like_length_are_together_yet_not_always_the_same_ones() -> None:
    lengths, sizes = _corpus(3000)
    batches = _batches(_order(sizes, max_frames=1000, max_utterances=100), lengths)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert lengths.sum() / padded > 0.9
    again = _batches(_order(sizes, max_frames=1000, max_utterances=100, epoch=1), lengths)
    sets = [{frozenset(batch.tolist()) for batch in one} for one in (batches, again)]
    assert len(sets[0] & sets[1]) < 0.1 * len(sets[0])


def test_batches_of_a_corpus_of_one_length_differ_between_epochs() -> None:
    sizes = np.full(10, 64)
    sets = [
        {frozenset(batch.tolist()) for batch in _batches(_order(sizes, epoch=epoch), np.full(640, 10))}
        for epoch in range(2)
    ]
    assert not sets[0] & sets[1]


def test_batches_are_not_ordered_by_length() -> None:
    lengths, sizes = _corpus(2000)
    longest = np.array([lengths[batch].max() for batch in _batches(_order(sizes), lengths)])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2


def test_a_block_touches_few_row_groups() -> None:
    order = _order(np.full(100, 10), block_utterances=50)
    for block in range(20):
        assert len(set(order.members(0, block) // 10)) == 5


def test_what_cannot_be_planned_is_refused() -> None:
    limits = BatchConfig(200, 8, streams=3)
    with pytest.raises(ConfigError, match="300 frames.*200"):
        limits.check_lengths(np.array([300, 1, 1]), what="source 's'")
    with pytest.raises(ConfigError, match="2 utterances, fewer than the 3 streams"):
        limits.check_lengths(np.array([3, 3]), what="source 's'")
    with pytest.raises(ConfigError, match="max_utterances: must be at least 1, not 0"):
        BatchConfig(200, 0)
