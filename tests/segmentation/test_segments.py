"""Scores to segments: against silero-vad's own rule, and what must hold of any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from silero_vad.utils_vad import get_speech_timestamps_from_probs

from asrkd.segmentation.activity import FRAME_SECONDS, STEP_SECONDS, STEPS
from asrkd.segmentation.borders import joined, settled
from asrkd.segmentation.segments import segments, speech
from asrkd.segmentation.settings import SegmentSettings


def scores_of(seed: int, count: int, roughness: float) -> np.ndarray:
    """Scores that stay high or low for a while."""
    generator = np.random.default_rng(seed)
    walk = np.cumsum(generator.normal(0, roughness, count))
    return (0.5 + 0.5 * np.sin(walk)).astype(np.float32)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 99), st.integers(1, 400), st.sampled_from([0.1, 0.5, 3.0]), st.sampled_from([0.3, 0.5, 0.8]))
def test_speech_is_found_as_silero_vad_finds_it(seed: int, count: int, roughness: float, threshold: float) -> None:
    scores = scores_of(seed, count, roughness)
    found = [(begin * 512, min(end, count) * 512) for begin, end in speech(scores, threshold)]
    expected = get_speech_timestamps_from_probs(
        scores.tolist(), threshold=threshold, min_speech_duration_ms=0, min_silence_duration_ms=0, speech_pad_ms=0
    )
    assert found == [(one["start"], one["end"]) for one in expected]


@settings(deadline=None, max_examples=200)
@given(
    st.integers(0, 999),
    st.integers(1, 3000),
    st.sampled_from([0.05, 0.3, 2.0]),
    st.sampled_from(["silero", "none"]),
    st.sampled_from([(0.0, 1.0, 0.0), (1.0, 4.0, 0.2), (0.5, 30.0, 0.2), (0.4, 1.0, 0.25)]),
    st.floats(0.0, 0.0319),  # not all of a frame: no recording is empty
    st.booleans(),
)
def test_what_holds_of_any_scores(
    seed: int, count: int, roughness: float, vad: str, lengths: tuple[float, float, float], short: float, steady: bool
) -> None:
    shortest, longest, pad = lengths
    chosen = SegmentSettings(vad, min_speech=0.1, merge=0.3, pad=pad, min_seconds=shortest, max_seconds=longest)
    scores = scores_of(seed, count, roughness)
    levels = 60 * scores_of(seed + 1, STEPS * count, 2.0).astype(np.float16) - 80
    if steady:
        levels[:] = -30
    seconds = count * FRAME_SECONDS - short
    found = segments(scores, levels, seconds, chosen)
    assert all(0 <= begin < end <= seconds for begin, end in found)
    assert all(end <= begin + 1e-9 for (_, end), (begin, _) in zip(found, found[1:], strict=False))
    assert all(end - begin <= longest + 1e-6 for begin, end in found)
    # Shorter than the least length only where there is no room.
    for i, (begin, end) in enumerate(found):
        room = (found[i + 1][0] if i + 1 < len(found) else seconds) - (found[i - 1][1] if i else 0.0)
        assert end - begin >= min(shortest, longest / 4) - 1e-6 or room <= max(shortest, end - begin) + 2 * shortest
    if not steady:  # where sound ends, borders are moved inward
        return
    covered = np.zeros(count, bool)
    if found and found[-1][1] == seconds:
        covered[-1] = True
    for begin, end in found:
        covered[int(round(begin / FRAME_SECONDS - 1e-6)) : int(np.ceil(end / FRAME_SECONDS - 1e-6))] = True
    spoken = [(0, count)] if vad == "none" else speech(scores, chosen.speech_threshold)
    for begin, end in spoken:
        if (min(end, seconds / FRAME_SECONDS - 0.1) - begin) * FRAME_SECONDS >= 0.1:
            assert covered[begin:end].all()


def test_a_long_stretch_is_cut_in_its_pauses() -> None:
    scores = np.full(2000, 0.9, np.float32)
    pauses = [400, 790, 1200, 1650]
    for at in pauses:
        scores[at - 5 : at + 6] = 0.4  # above where speech ends
    found = segments(
        scores, np.zeros(8000, np.float16), 2000 * FRAME_SECONDS, SegmentSettings(max_seconds=16.0, pad=0.0)
    )
    edges = [end / FRAME_SECONDS for _, end in found[:-1]]
    assert len(found) >= 4
    # Wherever a pause lies within reach, the cut is in it.
    assert all(any(abs(edge - at) <= 5 for at in pauses) for edge in edges)


def test_gaps_and_bursts() -> None:
    second = round(1 / FRAME_SECONDS)
    scores = np.zeros(20 * second, np.float32)
    scores[2 * second : 4 * second] = 1
    scores[4 * second + 5 : 6 * second] = 1  # a gap of 160 ms
    scores[10 * second : 10 * second + 2] = 1  # 64 ms
    scores[15 * second : 15 * second + 8] = 1  # 256 ms: widened to a second
    levels = np.repeat(np.where(scores > 0, -20, -70), STEPS).astype(np.float16)
    found = segments(scores, levels, 20.0, SegmentSettings(pad=0.2, min_seconds=1.0))
    assert len(found) == 2
    np.testing.assert_allclose(found[0], (2 * second * FRAME_SECONDS - 0.2, 6 * second * FRAME_SECONDS + 0.2))
    assert abs(found[1][1] - found[1][0] - 1.0) < 1e-6


@pytest.mark.parametrize("at", [-6, -3, 0, 3])
def test_a_padded_border_cuts_no_faint_sound(at: int) -> None:
    """A sound of 48 ms, so faint that it does not count as speech, lies over where the padding ends, or over where it begins."""
    settings = SegmentSettings(pad=0.096, min_seconds=0.0)  # 12 steps
    scores = np.repeat([0.0, 1.0, 0.0], 60).astype(np.float32)
    first, last = 60 * STEPS, 120 * STEPS
    levels = np.full(len(scores) * STEPS, -70, np.float16)
    levels[first:last] = -20
    plain = segments(scores, levels, 5.76, settings)
    np.testing.assert_allclose(plain, [((first - 12) * STEP_SECONDS, (last + 12) * STEP_SECONDS)], atol=1e-6)
    faint = slice(last + 12 + at, last + 18 + at), slice(first - 18 - at, first - 12 - at)
    for sound in faint:
        levels[sound] = -66
    ((begin, end),) = segments(scores, levels, 5.76, settings)
    for border, sound, way in ((end, faint[0], last), (begin, faint[1], first)):
        step = border / STEP_SECONDS
        assert not sound.start < step < sound.stop
        assert 6 - 1e-6 <= abs(step - way) <= 18 + 1e-6


def times_of(bursts: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(round(begin * STEP_SECONDS, 3), round(end * STEP_SECONDS, 3)) for begin, end in bursts]


def sound(seconds: float, *loud: tuple[float, float, float]) -> np.ndarray:
    """Levels of -70 dB, but for (from, to, level)."""
    levels = np.full(round(seconds / STEP_SECONDS), -70, np.float16)
    for begin, end, level in loud:
        levels[round(begin / STEP_SECONDS) : round(end / STEP_SECONDS)] = level
    return levels


def burst(begin: float, end: float) -> tuple[int, int]:
    return round(begin / STEP_SECONDS), round(end / STEP_SECONDS)


def test_borders_are_moved_to_where_sound_ends() -> None:
    levels = sound(50, (22, 24, -20), (24, 24.4, -45), (24.6, 24.8, -40), (26, 26.04, -20))
    # Inward from quiet, outward through a fading sound, and over a pause of less than a fifth of a second.
    assert times_of(settled([burst(21.6, 23.2)], levels)) == [(22.0, 24.4)]
    levels[slice(*burst(24.4, 24.44))] = -45
    assert times_of(settled([burst(21.6, 23.6)], levels)) == [(22.0, 24.8)]
    # Sound is followed for a second and a half.
    assert times_of(settled([burst(21.6, 23.2)], levels)) == [(22.0, 23.4)]
    # A click is not speech; where nothing is quiet against the rest, there is no telling.
    assert settled([burst(25.8, 26.2)], levels) == []
    assert times_of(settled([burst(25.8, 26.2)], sound(50))) == [(25.6, 26.4)]


def test_unsteady_noise_is_quiet_where_it_is_far_below_the_speech() -> None:
    """A sound of -45 dB half a second behind the speech: noise where the like lies between all stretches, the end of a word where it does not."""
    speech = [(at, at + 2.0, -20.0) for at in range(4, 40, 6)]
    tails = [(at + 2.0, at + 2.4, -45.0) for at in range(4, 40, 6)]
    rattle = [(at / 10, at / 10 + 0.15, -45.0) for at in range(0, 400, 3)]
    bursts = [burst(begin, end) for begin, end, _ in speech]
    assert times_of(settled(bursts, sound(40, *tails, *speech))) == [(at, at + 2.4) for at in range(4, 40, 6)]
    assert times_of(settled(bursts, sound(40, *rattle, *tails, *speech))) == [(at, at + 2.0) for at in range(4, 40, 6)]
    # Nearer to the speech than 22 dB it may be speech, however noisy it is around.
    louder = [(begin, end, -40.0) for begin, end, _ in [*rattle, *tails]]
    moved = settled(bursts, sound(40, *louder, *speech))
    assert all(
        begin <= at - 0.19 and end >= at + 2.19
        for at, (begin, end) in zip(range(4, 40, 6), times_of(moved), strict=True)
    )


def test_speech_is_as_loud_as_its_stretch() -> None:
    """A faint burst of a sentence does not make the noise around it speech."""
    rattle = [(at / 10, at / 10 + 0.15, -45.0) for at in range(0, 400, 3)]
    levels = sound(40, *rattle, (10, 12, -20), (12.2, 12.6, -35))
    assert times_of(settled([burst(10, 12), burst(12.2, 12.6)], levels))[-1][1] == 12.6
    # By itself it is too near to the noise for that.
    assert times_of(settled([burst(12.2, 12.6)], levels))[-1][1] > 12.7


def test_in_loud_noise_borders_are_moved_outward_by_a_fifth_of_a_second() -> None:
    levels = sound(8, (0, 8, -30), (3, 4, -20))
    assert times_of(settled([burst(3.0, 4.0)], levels)) == [(2.8, 4.2)]
    assert times_of(settled([burst(0.1, 4.0), burst(4.1, 7.9)], levels)) == [(0.0, 4.096), (4.0, 8.0)]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 999), st.integers(1, 600), st.sampled_from([0.05, 0.3, 2.0]))
def test_what_holds_of_any_borders(seed: int, count: int, roughness: float) -> None:
    bursts = [(begin * STEPS, end * STEPS) for begin, end in speech(scores_of(seed, count, roughness), 0.6)]
    levels = (60 * scores_of(seed + 1, STEPS * count, 0.5) - 80).astype(np.float16)
    moved = settled(bursts, levels)
    assert all(0 <= begin < end <= len(levels) for begin, end in moved)
    assert moved == sorted(moved)
    # Every burst is in a stretch of those that there were, and none reaches into two of its neighbors.
    for begin, end in moved:
        assert any(begin < last and first < end for first, last in bursts)
    stretches = joined(moved, 0.3)
    assert all(
        after[0] - before[1] > 0.3 / STEP_SECONDS - 1 for before, after in zip(stretches, stretches[1:], strict=False)
    )


def test_a_cut_lies_in_the_quietest_place_of_the_longest_gap() -> None:
    scores, levels = np.ones(1000, np.float32), np.full(4000, -20, np.float16)
    for at, length in ((400, 3), (500, 7), (600, 3)):  # gaps of 96 and 224 ms
        scores[at : at + length] = 0
        levels[at * STEPS : (at + length) * STEPS] = -60
    levels[505 * STEPS : 506 * STEPS + 4] = -65
    (_, end), (begin, _) = segments(scores, levels, 32.0, SegmentSettings(max_seconds=24.0, pad=0.1))
    assert begin == end and 505 <= end / FRAME_SECONDS <= 507
