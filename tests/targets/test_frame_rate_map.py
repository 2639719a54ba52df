"""Maps between frame rates against plain loops over a dense grid of half samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.corpus.frame_law import FrameLaw
from asrkd.errors import ConfigError, MismatchError
from asrkd.targets.codecs import Dense, TopK
from asrkd.targets.frame_rate_map import FrameRateMap, concatenate, nearest, peak, pick, pool
from asrkd.targets.frame_rates import FrameRates
from asrkd.targets.packed import as_stored
from asrkd.targets.sparse import SparseTargets

CLASSES = 6
# Windows of 5 samples every 2: frames of a few samples, so that a grid of half samples is small.
shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
laws = st.builds(
    lambda window, shift, begin, shape: FrameLaw(window, shift, *shape, begin),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(-3, 0),
    shapes,
)


def teacher(frames: int, k: int, seed: int) -> SparseTargets:
    generator = torch.Generator().manual_seed(seed)
    return as_stored(TopK(k), (torch.randn(frames, CLASSES, generator=generator) * 3).log_softmax(1))


def cells(law: FrameLaw, frames: int) -> list[range]:
    """The half samples of each frame: around the windows that it begins with until the next frame's."""
    windows = [
        range(
            2 * (law.begin + law.shift * n) + law.window - law.shift,
            2 * (law.begin + law.shift * n) + law.window + law.shift,
        )
        for n in range(frames * law.stride * law.subsampling_factor)
    ]
    late = max(law.stack - law.stride, 0) * law.shift
    step = law.stride * law.subsampling_factor
    return [range(windows[n * step].start + late, windows[n * step + step - 1].stop + late) for n in range(frames)]


@settings(max_examples=60, deadline=None)
@given(laws, laws, st.integers(0, 120), st.integers(1, CLASSES), st.integers(0, 2**31))
def test_pool_and_nearest_equal_a_dense_loop(
    teacher_law: FrameLaw, student_law: FrameLaw, num_samples: int, k: int, seed: int
) -> None:
    frames, students = teacher_law.num_frames(num_samples), student_law.num_frames(num_samples)
    rates, before = FrameRates(teacher_law, student_law), teacher(frames, k, seed)
    pooled, near = (rule(before, rates, students) for rule in (pool, nearest))
    assert pooled.num_frames == near.num_frames == students
    if not frames:
        for one in (pooled, near):
            assert not len(one.ids) and not one.missing.any()
        return
    dense, missing = before.to_dense().double().exp().numpy(), before.missing.double().numpy()
    grid = cells(teacher_law, frames)

    def at(time: int) -> int:
        """The teacher's frame at a half sample; what is before the first one is the first one's, what is behind the last the last one's."""
        return next((m for m, cell in enumerate(grid) if time < cell.stop), frames - 1)

    found = pooled.to_dense().double().exp().numpy()
    for n, cell in enumerate(cells(student_law, students)):
        parts = [at(time) for time in cell]
        np.testing.assert_allclose(found[n], dense[parts].mean(axis=0), atol=1e-6)
        assert float(pooled.missing[n]) == pytest.approx(missing[parts].mean(), abs=1e-6)
        middle = at((cell.start + cell.stop) // 2)
        np.testing.assert_array_equal(near.to_dense()[n], before.to_dense()[middle])
        assert near.missing[n] == before.missing[middle]
    for a, b in zip(pooled.row_splits[:-1], pooled.row_splits[1:], strict=True):
        assert (np.diff(pooled.ids[a:b]) > 0).all()


@settings(max_examples=60, deadline=None)
@given(laws, laws, st.integers(0, 120), st.integers(1, CLASSES), st.integers(0, 2**31))
def test_peak_equals_a_dense_loop(
    teacher_law: FrameLaw, student_law: FrameLaw, num_samples: int, k: int, seed: int
) -> None:
    frames, students = teacher_law.num_frames(num_samples), student_law.num_frames(num_samples)
    before, rates = teacher(frames, k, seed), FrameRates(teacher_law, student_law)
    after = peak(before, rates, students)
    assert after.num_frames == students
    if not frames or not students:
        return
    dense, near = before.to_dense(), rates.nearest(frames, students)
    own = cells(student_law, students)
    guests: list[list[int]] = [[] for _ in range(students)]
    for m, cell in enumerate(cells(teacher_law, frames)):
        middle = (cell.start + cell.stop) // 2
        guests[next((n for n, one in enumerate(own) if middle < one.stop), students - 1)].append(m)
    for n, waiting in enumerate(guests):
        best = min(waiting or [int(near[n])], key=lambda m: (float(dense[m, 0].exp()), m))
        np.testing.assert_array_equal(after.to_dense()[n], dense[best])
        assert after.missing[n] == before.missing[best]


def labels(targets: SparseTargets) -> list[int]:
    """The best CTC path, whose frames without entries are blank."""
    dense = targets.to_dense(-50.0)
    path = torch.where(dense.max(1).values > -50.0, dense.argmax(1), 0)
    return [label for label in torch.unique_consecutive(path).tolist() if label]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, CLASSES - 1)), max_size=6),
    st.sampled_from(
        [(320, 640), (320, 480), (640, 320), (1280, 640), (1280, 480), (1280, 320), (640, 640), (480, 640)]
    ),
    st.sampled_from(["peak", "nearest"]),
    st.integers(0, 319),
)
def test_a_transcript_of_peaks_survives(
    spec: list[tuple[int, int, int]], shifts: tuple[int, int], rule: str, extra: int
) -> None:
    """Labels of some frames each that lie further apart than a frame of either side are still there, in order, whichever is slower."""
    teacher_law, student_law = (FrameLaw(400, 160, shift // 160, shift // 160) for shift in shifts)
    gap = max(2, -(-2 * shifts[1] // shifts[0]))
    path = [0] + [unit for blanks, lasts, label in spec for unit in (*[0] * (blanks + gap), *[label] * lasts)] + [0]
    probs = torch.full((len(path), CLASSES), 0.02)
    probs[range(len(path)), path] = 0.9
    before = as_stored(Dense(), probs.log())
    num_samples = teacher_law.lengths_of(len(path))[0] + extra
    if teacher_law.num_frames(num_samples) != len(path) or (rule == "nearest" and shifts[0] < shifts[1]):
        return
    after = FrameRateMap(rule)(before, FrameRates(teacher_law, student_law), student_law.num_frames(num_samples))
    assert labels(after) == [label for *_, label in spec] == labels(before)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 11), st.integers(1, 4), st.integers(1, 8), st.integers(0, 2**31), st.data())
def test_groups_are_picked_apart(frames: int, ratio: int, k: int, seed: int, data: st.DataObject) -> None:
    before = teacher(frames, min(k, CLASSES), seed)
    rates = FrameRates(FrameLaw(5, 2), FrameLaw(5, 2, subsampling_factor=ratio))
    students = -(-frames // ratio)
    offset = data.draw(st.integers(0, ratio - 1))
    picked, pooled, apart = (
        pick(before, rates, students, offset=offset),
        pool(before, rates, students),
        concatenate(before, rates, students),
    )
    assert len(apart) == ratio and pooled.num_frames == picked.num_frames == students
    for n in range(students):
        group = [min(n * ratio + place, frames - 1) for place in range(ratio)]
        np.testing.assert_array_equal(picked.to_dense()[n], before.to_dense()[group[offset]])
        np.testing.assert_allclose(pooled.to_dense()[n].exp(), before.to_dense().exp()[group].mean(axis=0), atol=1e-6)
        for place, one in enumerate(apart):
            np.testing.assert_array_equal(one.to_dense()[n], before.to_dense()[group[place]])


def test_a_frame_too_many_or_too_few_is_an_error() -> None:
    before = as_stored(Dense(), torch.randn(7, 3).log_softmax(1))
    rates = FrameRates(FrameLaw(400, 160), FrameLaw(400, 160, 3, 3))
    for frames in (1, 3):
        for rule in ("pool", "nearest", "peak", "pick"):
            with pytest.raises(MismatchError, match=f"have 7 frames, .* make 2 to 2 .* student has {frames}"):
                FrameRateMap(rule)(before, rates, frames)
    with pytest.raises(ConfigError, match="offset is 3, but a group has the 3 frames 0 to 2"):
        pick(before, rates, 2, offset=3)


def test_a_law_that_rounds_down_leaves_the_rest_out() -> None:
    before = as_stored(Dense(), torch.randn(7, 3).log_softmax(1))
    down, up = (
        pool(before, FrameRates(FrameLaw(400, 160), FrameLaw(400, 160, *shape)), frames)
        for shape, frames in (((3, 3), 2), ((1, 1, 3), 3))
    )
    np.testing.assert_array_equal(down.to_dense(), up.to_dense()[:2])


@given(laws, laws, st.integers(0, 400))
def test_numbers_of_frames_that_the_laws_give_always_fit(one: FrameLaw, other: FrameLaw, num_samples: int) -> None:
    FrameRates(one, other).check(one.num_frames(num_samples), other.num_frames(num_samples))
    least, most = one.lengths_of(one.num_frames(num_samples))
    assert least <= num_samples <= most
    assert one.num_frames(most + 1) > one.num_frames(num_samples) == one.num_frames(least)
    assert not least or one.num_frames(least - 1) < one.num_frames(num_samples)


def test_a_teacher_of_samples_fits_a_student_of_mel_bins_by_time() -> None:
    """Wav2Vec2's 20 ms and 30 ms of the study: each student frame is the mean of what it overlaps, 5 ms later than the first."""
    rates = FrameRates(FrameLaw(400, 320), FrameLaw(400, 160, 3, 3))
    before = as_stored(Dense(), torch.eye(5).mul(20).log_softmax(1))
    num_samples = 400 + 4 * 320
    after = pool(before, rates, rates.student.num_frames(num_samples))
    shares = after.to_dense().exp().numpy()
    np.testing.assert_allclose(shares[0], [0.5, 0.5, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(shares[1], [0, 1 / 6, 2 / 3, 1 / 6, 0], atol=1e-6)
    assert math.isclose(rates.student.cell[0] - rates.teacher.cell[0], 160)


def test_rules_by_name_and_laws_that_are_not_groups() -> None:
    before = as_stored(Dense(), torch.randn(6, 3).log_softmax(1))
    rates = FrameRates(FrameLaw(400, 160), FrameLaw(400, 160, 3, 3))
    np.testing.assert_array_equal(FrameRateMap("pick")(before, rates, 2).to_dense(), before.to_dense()[[0, 3]])
    np.testing.assert_array_equal(FrameRateMap("pick:2")(before, rates, 2).to_dense(), before.to_dense()[[2, 5]])
    for spec in ("", "mean", "pick:", "pick:a", "pool:1", "nearest:2", "peak:", "peak:last", "pick:-1"):
        with pytest.raises(ConfigError, match=f"frame-rate map '{spec}' is not known; give pool, nearest, peak"):
            FrameRateMap(spec)
    for student in (FrameLaw(400, 160, 1, 3), FrameLaw(200, 160, 1, 4), FrameLaw(400, 80, 1, 8), FrameLaw(400, 160)):
        with pytest.raises(MismatchError, match=r"picks frames by their number needs .*a multiple of the teacher's"):
            FrameRateMap("pick").check(FrameRates(FrameLaw(400, 160, 1, 2), student))
        FrameRateMap("pool").check(FrameRates(FrameLaw(400, 160, 1, 2), student))
    with pytest.raises(ConfigError, match="offset is 3"):
        FrameRateMap("pick:3").check(rates)
