"""From scores of speech to segments: bursts of speech are found, their borders settled, joined over short gaps, cut where too long, padded."""

from __future__ import annotations

import math
from bisect import bisect_left
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from asrkd.segmentation.activity import FRAME_SECONDS, STEP_SECONDS, STEPS
from asrkd.segmentation.borders import Steps, joined, quietest, settled
from asrkd.segmentation.settings import SegmentSettings

# How far below the threshold speech ends (as in silero-vad).
_HYSTERESIS = 0.15
# Where no gap is known, a cut is made in the quietest place of the stretch of this length with the lowest scores.
_PAUSE_SECONDS = 0.3
# A padded border that is this much louder than the quietest place near it lies in a sound. It may move this far, in times of the padding.
_SOUND_DB, _WIDEST_PAD = 1.5, 1.5

Times = list[tuple[float, float]]


def segments(
    scores: NDArray[np.float32], levels: NDArray[np.float16], seconds: float, settings: SegmentSettings
) -> Times:
    """(begin, end) in seconds of the segments of a recording, in order, none over another.

    Args:
        scores: (num_frames,) of speech, one for each `FRAME_SECONDS`.
        levels: (num_steps,) as `asrkd.segmentation.activity.StepLevels`.
        seconds: length of the recording.
    """
    # The last step may be silence that completes it; a sliver of audio in it belongs to the step before.
    count = min(len(levels), len(scores) * STEPS, max(1, math.ceil(seconds / STEP_SECONDS - 0.1)))
    levels = levels[:count]
    if settings.vad == "none":
        bursts = [(0, count)]
    else:
        bursts = settled(_bursts(scores, count, settings), levels)
    gaps = [(end, begin) for (_, end), (begin, _) in zip(bursts, bursts[1:], strict=False) if end < begin]
    cut = [part for one in joined(bursts, settings.merge) for part in _cut(one, gaps, scores, levels, settings)]
    times = [(begin * STEP_SECONDS, seconds if end == count else end * STEP_SECONDS) for begin, end in cut]
    return _padded(times, levels, seconds, settings)


def speech(scores: NDArray[np.float32], threshold: float) -> list[tuple[int, int]]:
    """[begin, end) of the frames of speech: from a score of `threshold` on until one below it by the hysteresis."""
    low = max(threshold - _HYSTERESIS, 0.01)
    # A frame between the two thresholds is what the last one outside them was: only where one of them is crossed can that change.
    sure = np.flatnonzero((scores >= threshold) | (scores < low))
    spoken = scores[sure] >= threshold
    changes = np.flatnonzero(np.diff(spoken, prepend=False))
    edges = sure[changes].tolist()
    if len(edges) % 2:
        edges.append(len(scores))
    return list(zip(edges[::2], edges[1::2], strict=True))


def _bursts(scores: NDArray[np.float32], count: int, settings: SegmentSettings) -> Steps:
    """Speech, in steps; without bursts that, joined over gaps of at most `merge`, stay shorter than `min_speech`."""
    spoken = [(begin * STEPS, min(count, end * STEPS)) for begin, end in speech(scores, settings.speech_threshold)]
    spoken = [(begin, end) for begin, end in spoken if begin < end]
    long = [
        stretch
        for stretch in joined(spoken, settings.merge)
        if (stretch[1] - stretch[0]) * STEP_SECONDS >= settings.min_speech
    ]
    begins = np.array([begin for begin, _ in long])
    kept = []
    for begin, end in spoken:
        at = int(np.searchsorted(begins, begin, "right")) - 1
        if at >= 0 and end <= long[at][1]:
            kept.append((begin, end))
    return kept


def _cut(
    stretch: tuple[int, int],
    gaps: Steps,
    scores: NDArray[np.float32],
    levels: NDArray[np.float16],
    settings: SegmentSettings,
) -> Steps:
    """Pieces of a stretch that are short enough: from its beginning on, each cut in the second half of what it may be."""
    begin, end = stretch
    longest = int((settings.max_seconds - 2 * _WIDEST_PAD * settings.pad) / STEP_SECONDS)
    parts = []
    while end - begin > longest:
        # The rest must not be a splinter: it is shared where it is not enough for a whole piece.
        first = begin + max(1, min(longest, (end - begin) // 2) // 2)
        last = min(begin + longest, end - 1)
        # Gaps are in order, and none lies over another.
        near = gaps[bisect_left(gaps, first, key=itemgetter(1)) : bisect_left(gaps, last + 1, key=itemgetter(0))]
        within = [(max(first, low), min(last + 1, high)) for low, high in near]
        # Of equal ones the latest, so that pieces are long.
        low, high = max(within, key=lambda gap: (gap[1] - gap[0], gap[0]), default=(0, 0))
        if high <= low:
            low, high = _least_like_speech(scores, first, last)
        at = quietest(levels, low, high)
        parts.append((begin, at))
        begin = at
    return [*parts, (begin, end)]


def _least_like_speech(scores: NDArray[np.float32], first: int, last: int) -> tuple[int, int]:
    """[begin, end) in steps, within `first` to `last`, of the stretch of a pause's length whose scores are the lowest."""
    width = max(1, round(_PAUSE_SECONDS / FRAME_SECONDS))
    frames = range(first // STEPS, last // STEPS + 1)
    around = scores[max(0, frames.start - width // 2) : frames.stop + width - width // 2]
    # A mean over less than the width, at an end of the recording, counts what is missing as the frame at that end.
    ends = (max(0, width // 2 - frames.start), max(0, frames.stop + width - width // 2 - len(scores)))
    smooth = np.convolve(np.pad(around, ends, mode="edge"), np.full(width, 1 / width), "valid")[: len(frames)]
    middle = (frames.stop - 1 - int(np.argmin(smooth[::-1]))) * STEPS
    half = width * STEPS // 2
    low = min(max(first, middle - half), last)
    return low, max(low + 1, min(last + 1, middle + half))


def _padded(times: Times, levels: NDArray[np.float16], seconds: float, settings: SegmentSettings) -> Times:
    """Padded at both sides, and widened to the least length, into half of the gap to the neighbor at most."""
    padded = []
    mirrored = levels[::-1]
    for i, (begin, end) in enumerate(times):
        before = (begin - times[i - 1][1]) / 2 if i else begin
        after = (times[i + 1][0] - end) / 2 if i + 1 < len(times) else seconds - end
        # The way before the beginning is that after the end, seen from behind.
        left = _pad(mirrored, len(levels) * STEP_SECONDS - begin, before, settings.pad)
        right = _pad(levels, end, after, settings.pad)
        missing = settings.min_seconds - (end - begin + left + right)
        if missing > 0:
            more = min(missing / 2, before - left)
            right += min(missing - more, after - right)
            left += min(settings.min_seconds - (end - begin + left + right), before - left) if before > left else 0.0
        padded.append((max(0.0, begin - left), min(seconds, end + right)))
    return padded


def _pad(levels: NDArray[np.float16], end: float, room: float, pad: float) -> float:
    """Seconds to keep after `end`, `room` at most: the padding, or, where that ends in a faint sound, up to half as much more or less, where it is quietest."""
    usual = min(pad, room)
    border = min(round((end + usual) / STEP_SECONDS), len(levels) - 1)
    first = math.ceil((end + pad / 2) / STEP_SECONDS)
    last = min(math.floor((end + min(_WIDEST_PAD * pad, room)) / STEP_SECONDS), len(levels))
    if first >= last:
        return usual
    quiet = quietest(levels, first, last)
    return quiet * STEP_SECONDS - end if levels[border] > levels[quiet] + _SOUND_DB else usual
