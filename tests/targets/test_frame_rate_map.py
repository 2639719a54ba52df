from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.corpus.frame_law import FrameLaw
from asrkd.errors import ConfigError, MismatchError
from asrkd.targets.codecs import Dense, TopK
from asrkd.targets.frame_rate_map import FrameRateMap, concatenate, pick, pool, ratio_of
from asrkd.targets.packed import as_stored
from asrkd.targets.sparse import SparseTargets


def teacher(frames: int, classes: int, k: int, seed: int) -> SparseTargets:
    generator = torch.Generator().manual_seed(seed)
    return as_stored(TopK(k), (torch.randn(frames, classes, generator=generator) * 3).log_softmax(1))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 11), st.integers(1, 4), st.integers(1, 8), st.integers(0, 2**31), st.data())
def test_every_rule_equals_a_plain_loop(frames: int, ratio: int, k: int, seed: int, data: st.DataObject) -> None:
    before = teacher(frames, 9, k, seed)
    dense = before.to_dense().double().exp().numpy()
    student = -(-frames // ratio)
    offset = data.draw(st.integers(0, ratio - 1))
    picked, pooled, apart = (
        pick(before, ratio, student, offset=offset),
        pool(before, ratio, student),
        concatenate(before, ratio, student),
    )
    assert len(apart) == ratio and pooled.num_frames == picked.num_frames == student
    for n in range(student):
        group = [min(n * ratio + place, frames - 1) for place in range(ratio)]
        np.testing.assert_array_equal(picked.to_dense()[n], before.to_dense()[group[offset]])
        assert picked.missing[n] == before.missing[group[offset]]
        np.testing.assert_allclose(pooled.to_dense()[n].exp(), dense[group].mean(axis=0), atol=1e-6)
        assert float(pooled.missing[n]) == pytest.approx(float(before.missing[group].mean()), abs=1e-6)
        for place, one in enumerate(apart):
            np.testing.assert_array_equal(one.to_dense()[n], before.to_dense()[group[place]])
    for a, b in zip(pooled.row_splits[:-1], pooled.row_splits[1:], strict=True):
        assert (np.diff(pooled.ids[a:b]) > 0).all()


def test_a_frame_too_many_or_too_few_is_an_error() -> None:
    before = as_stored(Dense(), torch.randn(7, 3).log_softmax(1))
    for frames in (1, 4):
        with pytest.raises(MismatchError, match=f"have 7 frames, .* ratio of 3 make 2 to 3, .* student has {frames}"):
            pool(before, 3, frames)
    with pytest.raises(ConfigError, match="offset is 3, but a group has the 3 frames 0 to 2"):
        pick(before, 3, 3, offset=3)
    with pytest.raises(ConfigError, match="ratio is 0"):
        concatenate(before, 0, 3)


def test_a_law_that_rounds_down_leaves_the_rest_out() -> None:
    before = as_stored(Dense(), torch.randn(7, 3).log_softmax(1))
    np.testing.assert_array_equal(pool(before, 3, 2).to_dense(), pool(before, 3, 3).to_dense()[:2])


@given(st.integers(0, 40_000), st.sampled_from([(3, 3, 1), (1, 3, 1), (1, 1, 3), (3, 3, 2)]))
def test_the_frames_of_front_ends_that_map_always_fit(num_samples: int, shape: tuple[int, int, int]) -> None:
    teacher_law = FrameLaw(400, 160)
    student = FrameLaw(400, 160, *shape)
    ratio = ratio_of(teacher_law, student, what="store")
    frames = teacher_law.num_frames(num_samples)
    rows = as_stored(Dense(), torch.zeros(frames, 2).log_softmax(1))
    assert FrameRateMap("pool")(rows, ratio, student.num_frames(num_samples)).num_frames == student.num_frames(
        num_samples
    )


def test_rules_by_name_and_laws_that_do_not_map() -> None:
    before = as_stored(Dense(), torch.randn(6, 3).log_softmax(1))
    np.testing.assert_array_equal(FrameRateMap("pick")(before, 3, 2).to_dense(), before.to_dense()[[0, 3]])
    np.testing.assert_array_equal(FrameRateMap("pick:2")(before, 3, 2).to_dense(), before.to_dense()[[2, 5]])
    for spec in ("", "mean", "pick:", "pick:a", "pool:1"):
        with pytest.raises(ConfigError, match=f"frame-rate map '{spec}' is not known; give pick, pick:OFFSET or pool"):
            FrameRateMap(spec)
    for student in (FrameLaw(400, 160, 1, 3), FrameLaw(200, 160, 1, 4), FrameLaw(400, 80, 1, 8)):
        with pytest.raises(MismatchError, match="store was made with the frame law .*a multiple of the teacher's"):
            ratio_of(FrameLaw(400, 160, 1, 2), student, what="store")
