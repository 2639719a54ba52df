"""Scores to segments: against silero-vad's own rule, and what must hold of any scores."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from silero_vad.utils_vad import get_speech_timestamps_from_probs

from asrkd.segmentation.activity import FRAME_SECONDS
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
    st.floats(0.0, 0.032),
)
def test_what_holds_of_any_scores(
    seed: int, count: int, roughness: float, vad: str, lengths: tuple[float, float, float], short: float
) -> None:
    shortest, longest, pad = lengths
    chosen = SegmentSettings(vad, min_speech=0.1, merge=0.3, pad=pad, min_seconds=shortest, max_seconds=longest)
    scores = scores_of(seed, count, roughness)
    levels = 60 * scores_of(seed + 1, count, 2.0) - 80
    seconds = count * FRAME_SECONDS - short
    found = segments(scores, levels, seconds, chosen)
    assert all(0 <= begin < end <= seconds for begin, end in found)
    assert all(end <= begin + 1e-9 for (_, end), (begin, _) in zip(found, found[1:], strict=False))
    assert all(end - begin <= longest + 1e-6 for begin, end in found)
    # Shorter than the least length only where there is no room.
    for i, (begin, end) in enumerate(found):
        room = (found[i + 1][0] if i + 1 < len(found) else seconds) - (found[i - 1][1] if i else 0.0)
        assert end - begin >= min(shortest, longest / 4) - 1e-6 or room <= max(shortest, end - begin) + 2 * shortest
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
        scores, np.zeros(2000, np.float32), 2000 * FRAME_SECONDS, SegmentSettings(max_seconds=16.0, pad=0.0)
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
    found = segments(scores, np.zeros_like(scores), 20.0, SegmentSettings(min_seconds=1.0))
    assert len(found) == 2
    np.testing.assert_allclose(found[0], (2 * second * FRAME_SECONDS - 0.2, 6 * second * FRAME_SECONDS + 0.2))
    assert abs(found[1][1] - found[1][0] - 1.0) < 1e-6


def test_a_segment_ends_where_a_fading_sound_does() -> None:
    scores, levels = np.zeros(300, np.float32), np.full(300, -70, np.float32)
    scores[100:200] = 1
    levels[90:200] = -20  # begins 90 ms before the padding does
    levels[200:215] = -40  # and fades for half a second
    ((begin, end),) = segments(scores, levels, 300 * FRAME_SECONDS, SegmentSettings(pad=0.224))
    np.testing.assert_allclose((begin, end), (89 * FRAME_SECONDS, 216 * FRAME_SECONDS))
    loud = np.full(300, -20, np.float32)  # there is no quiet to end in
    ((begin, end),) = segments(scores, loud, 300 * FRAME_SECONDS, SegmentSettings(pad=0.224))
    np.testing.assert_allclose((begin, end), (93 * FRAME_SECONDS, 207 * FRAME_SECONDS))
