from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.errors import ConfigError
from asrkd.streaming.plan import EpochPlan, plan_epoch

PRINT = "0123456789abcdef" * 2


def _plan(lengths: np.ndarray, groups: np.ndarray, **changes: object) -> EpochPlan:
    settings_ = {"seed": 1, "epoch": 0, "fingerprint": PRINT, "max_frames": 200, "max_utterances": 8} | changes
    return plan_epoch(lengths, groups, **settings_)  # type: ignore[arg-type]


def _corpus(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(1, 101, size), np.sort(rng.integers(0, 1 + size // 10, size))


@given(size=st.integers(1, 300), seed=st.integers(0, 99), block=st.integers(1, 400), most=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_every_utterance_once_and_no_batch_over_budget(size: int, seed: int, block: int, most: int) -> None:
    lengths, groups = _corpus(size, seed)
    plan = _plan(lengths, groups, max_utterances=most, block_utterances=block, epoch=seed)
    batches = [plan.batch(number) for number in range(len(plan))]
    assert sorted(np.concatenate(batches).tolist()) == list(range(size))
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert len(batch) * lengths[batch].max() <= 200


def test_the_plan_is_a_pure_function_of_seed_epoch_and_fingerprint() -> None:
    lengths, groups = _corpus(500)
    first = _plan(lengths, groups)
    again = _plan(lengths, groups)
    np.testing.assert_array_equal(first.order, again.order)
    np.testing.assert_array_equal(first.splits, again.splits)
    for change in ({"seed": 2}, {"epoch": 1}, {"fingerprint": "f" * 32}):
        assert not np.array_equal(first.order, _plan(lengths, groups, **change).order)


def test_utterances_of_like_length_are_together_yet_not_always_the_same_ones() -> None:
    lengths, groups = _corpus(3000)
    plan = _plan(lengths, groups, max_frames=1000, max_utterances=100)
    padded = sum(len(plan.batch(i)) * lengths[plan.batch(i)].max() for i in range(len(plan)))
    assert lengths.sum() / padded > 0.85
    sets = [{frozenset(p.batch(i).tolist()) for i in range(len(p))} for p in (plan, _plan(lengths, groups, epoch=1))]
    assert len(sets[0] & sets[1]) < 0.1 * len(sets[0])


def test_batches_are_not_ordered_by_length() -> None:
    lengths, groups = _corpus(2000)
    plan = _plan(lengths, groups)
    longest = np.array([lengths[plan.batch(i)].max() for i in range(len(plan))])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2


def test_a_block_touches_few_row_groups() -> None:
    lengths, groups = np.full(1000, 10), np.arange(1000) // 10
    plan = _plan(lengths, groups, block_utterances=50)
    for start in range(0, 1000, 50):
        assert len(set(groups[plan.order[start : start + 50]])) == 5


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(ConfigError, match="300 frames.*200"):
        _plan(np.array([300]), np.array([0]))
    with pytest.raises(ConfigError, match="max_utterances is 0"):
        _plan(np.array([3]), np.array([0]), max_utterances=0)
    assert len(_plan(np.zeros(0, int), np.zeros(0, int))) == 0
