"""From scores of speech to segments: speech is found, joined over short gaps, cut where it is too long, padded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from asrkd.segmentation.activity import FRAME_SECONDS
from asrkd.segmentation.settings import SegmentSettings

# How far below the threshold speech ends (as in silero-vad).
_HYSTERESIS = 0.15
# A cut is made in the middle of the stretch of this length with the lowest scores.
_PAUSE_SECONDS = 0.3

# A border that is this much louder than the quietest frame within reach is moved outward to the next one that is nearly as quiet as that.
_REACH_SECONDS, _LOUD_DB, _QUIET_DB = 0.5, 3.0, 2.0

Times = list[tuple[float, float]]


def segments(
    scores: NDArray[np.float32], levels: NDArray[np.float32], seconds: float, settings: SegmentSettings
) -> Times:
    """(begin, end) in seconds of the segments of a recording, in order, none over another.

    Args:
        scores: (num_frames,) of speech, one for each `FRAME_SECONDS`.
        levels: (num_frames,) in decibels.
        seconds: length of the recording.
    """
    # The last frame may be silence that completes it; a sliver of audio in it belongs to the frame before.
    count = min(len(scores), max(1, math.ceil(seconds / FRAME_SECONDS - 0.1)))
    scores = scores[:count]
    if settings.vad == "none":
        spoken = [(0, len(scores))]
    else:
        spoken = _joined(speech(scores, settings.speech_threshold), settings)
    cut = [part for begin, end in spoken for part in _cut(scores, begin, end, settings)]
    times = [(begin * FRAME_SECONDS, seconds if end == count else end * FRAME_SECONDS) for begin, end in cut]
    return _ended_in_quiet(_padded(times, seconds, settings), levels[:count], seconds, settings.max_seconds)


def speech(scores: NDArray[np.float32], threshold: float) -> list[tuple[int, int]]:
    """[begin, end) of the frames of speech: from a score of `threshold` on until one below it by the hysteresis."""
    low = max(threshold - _HYSTERESIS, 0.01)
    state = np.where(scores >= threshold, 1, np.where(scores < low, 0, -1))
    # A frame between the two thresholds is what the last one outside them was.
    last = np.maximum.accumulate(np.where(state >= 0, np.arange(len(state)), -1))
    spoken = np.where(last >= 0, state[last], 0)
    edges = np.flatnonzero(np.diff(np.r_[0, spoken, 0]))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _joined(spoken: list[tuple[int, int]], settings: SegmentSettings) -> list[tuple[int, int]]:
    """Bursts of speech joined over gaps of at most `merge`, without those that stay shorter than `min_speech`."""
    joined: list[tuple[int, int]] = []
    for begin, end in spoken:
        if joined and (begin - joined[-1][1]) * FRAME_SECONDS <= settings.merge:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return [(begin, end) for begin, end in joined if (end - begin) * FRAME_SECONDS >= settings.min_speech]


def _cut(scores: NDArray[np.float32], begin: int, end: int, settings: SegmentSettings) -> list[tuple[int, int]]:
    """Pieces of a stretch that are short enough: from its beginning on, each cut in the second half of what it may be."""
    longest = int((settings.max_seconds - 2 * settings.pad) / FRAME_SECONDS)
    width = min(max(1, round(_PAUSE_SECONDS / FRAME_SECONDS)), longest)
    parts = []
    while end - begin > longest:
        # The rest must not be a splinter: it is shared where it is not enough for a whole piece.
        first = begin + max(1, min(longest, (end - begin) // 2) // 2)
        last = min(begin + longest, end - 1)
        around = scores[max(begin, first - width // 2) : min(end, last + width - width // 2)]
        smooth = np.convolve(around, np.ones(width) / width, mode="same")[first - max(begin, first - width // 2) :]
        smooth = smooth[: last - first + 1]
        # Of equal ones the latest, so that pieces are long.
        at = first + len(smooth) - 1 - int(np.argmin(smooth[::-1]))
        parts.append((begin, at))
        begin = at
    return [*parts, (begin, end)]


def _padded(times: Times, seconds: float, settings: SegmentSettings) -> Times:
    """Padded at both sides, and widened to the least length, into half of the gap to the neighbor at most."""
    padded = []
    for i, (begin, end) in enumerate(times):
        before = (begin - times[i - 1][1]) / 2 if i else begin
        behind = (times[i + 1][0] - end) / 2 if i + 1 < len(times) else seconds - end
        left, right = min(settings.pad, before), min(settings.pad, behind)
        missing = settings.min_seconds - (end - begin + left + right)
        if missing > 0:
            more = min(missing / 2, before - left)
            right += min(missing - more, behind - right)
            left += min(settings.min_seconds - (end - begin + left + right), before - left) if before > left else 0.0
        padded.append((max(0.0, begin - left), min(seconds, end + right)))
    return padded


def _ended_in_quiet(times: Times, levels: NDArray[np.float32], seconds: float, longest: float) -> Times:
    """Segments that end in speech which the scores miss (soft beginnings and ends of words) reach to the quiet behind it."""
    moved: Times = []
    for i, (begin, end) in enumerate(times):
        reach = min(_REACH_SECONDS, max(0.0, longest - (end - begin)) / 2)
        first = max(moved[-1][1] if moved else 0.0, begin - reach)
        last = min(times[i + 1][0] if i + 1 < len(times) else seconds, end + reach)
        before = levels[math.ceil(first / FRAME_SECONDS - 1e-6) : math.floor(begin / FRAME_SECONDS) + 1]
        behind = levels[math.ceil(end / FRAME_SECONDS - 1e-6) - 1 : math.floor(last / FRAME_SECONDS + 1e-6)]
        left = _steps_to_quiet(before[::-1]) if begin > first else 0
        right = _steps_to_quiet(behind) if end < last else 0
        moved.append((max(first, begin - left * FRAME_SECONDS), min(last, end + right * FRAME_SECONDS)))
    return moved


def _steps_to_quiet(levels: NDArray[np.float32]) -> int:
    """Frames from the first to where a border belongs."""
    if not len(levels) or levels[0] <= levels.min() + _LOUD_DB:
        return 0
    return int(np.argmax(levels <= levels.min() + _QUIET_DB))
