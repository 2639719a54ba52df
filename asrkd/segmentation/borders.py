"""Where speech begins and ends to 8 ms: a detector's borders, moved to where the sound that they lie in begins and ends."""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrkd.segmentation.activity import STEP_SECONDS, levels_around, noise_floors

Steps = list[tuple[int, int]]

# Quiet is what is at most this much above the noise floor, and at least this much below the loudest of the stretch of speech.
_ABOVE_FLOOR_DB, _BELOW_SPEECH_DB = 5.0, 16.0
_LOWEST_FLOOR_DB = -70.0
# Noise that is not steady is louder than that. So what is further below the speech is quiet, too, where it is at most as loud as 95 %
# of what lies this far and further from speech around. Where it is quiet between stretches, faint sounds remain speech.
_FAR_BELOW_SPEECH_DB = 22.0
_NOISE_SHARE = 95
_AWAY = round(0.3 / STEP_SECONDS)
# Bursts that lie no further apart are one stretch, as a rule a sentence; a single burst may be a faint sound of it.
_STRETCH_GAP = 0.3
# Clicks do not end a quiet stretch, and pauses in words (closures of stops) are not one.
_CLICK, _PAUSE = round(0.05 / STEP_SECONDS), round(0.2 / STEP_SECONDS)
# How far outward sound is followed to its end; where it has none within, this much is kept of what cannot be told from noise.
_REACH, _UNSURE = round(1.5 / STEP_SECONDS), round(0.2 / STEP_SECONDS)


def runs(flags: NDArray[np.bool_]) -> Steps:
    """[begin, end) of the runs of True."""
    edges = np.flatnonzero(np.diff(np.r_[0, flags.astype(np.int8), 0]))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def settled(bursts: Steps, levels: NDArray[np.float16]) -> Steps:
    """Bursts of speech with their borders where sound ends, without those that are quiet; some may touch or overlap.

    A border in quiet is moved inward, to the sound; one in sound outward, to quiet. In noise that is nearly as loud as the speech
    there is no quiet, and a detector finds soft beginnings and ends of words late and loses them early: there it is moved
    outward by a fifth of a second. No border is moved beyond the next burst's.

    Args:
        bursts: [begin, end) in steps.
        levels: (num_steps,) as `asrkd.segmentation.activity.StepLevels`.
    """
    floors = np.maximum(noise_floors(levels, STEP_SECONDS), _LOWEST_FLOOR_DB)
    noise = levels_around(levels, STEP_SECONDS, _NOISE_SHARE, _away(bursts, len(levels)))
    per_floor = round(1.0 / STEP_SECONDS)
    stretches = joined(bursts, _STRETCH_GAP)
    loudest = [levels[begin:end].max() for begin, end in stretches]
    moved = []
    for i, (begin, end) in enumerate(bursts):
        first = max(0, begin - _REACH - _PAUSE)
        around = levels[first : end + _REACH + _PAUSE].astype(np.float32)
        second = np.arange(first, first + len(around)) // per_floor
        speech = np.float32(loudest[bisect_right(stretches, begin, key=itemgetter(0)) - 1])
        quiet = _quiet(
            (around <= floors[second] + _ABOVE_FLOOR_DB) & (around <= speech - _BELOW_SPEECH_DB)
            | (around <= noise[second]) & (around <= speech - _FAR_BELOW_SPEECH_DB)
        )
        lowest = bursts[i - 1][1] if i else 0
        highest = bursts[i + 1][0] if i + 1 < len(bursts) else len(levels)
        # The way to the beginning is that to the end, seen from behind.
        last = first + len(around)
        new_end = first + _border(quiet, end - first, highest - first)
        new_begin = last - _border(quiet[::-1], last - begin, last - lowest)
        if new_begin < min(new_end, end) and begin < new_end:
            moved.append((new_begin, new_end))
    return moved


def joined(bursts: Steps, gap: float) -> Steps:
    """Bursts, in order, joined over gaps of at most `gap` seconds."""
    parts: Steps = []
    for begin, end in bursts:
        if parts and (begin - parts[-1][1]) * STEP_SECONDS <= gap + 1e-9:
            parts[-1] = (parts[-1][0], max(parts[-1][1], end))
        else:
            parts.append((begin, end))
    return parts


def _away(bursts: Steps, count: int) -> NDArray[np.bool_]:
    """(count,) whether a step is far from all bursts."""
    flags = np.ones(count, bool)
    for begin, end in bursts:
        flags[max(0, begin - _AWAY) : end + _AWAY] = False
    return flags


def _quiet(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where it stays quiet, of where it is."""
    for begin, end in runs(~flags):
        if end - begin < _CLICK and begin and end < len(flags):
            flags[begin:end] = True
    for begin, end in runs(flags):
        # What lies at an end may be part of a longer stretch.
        if end - begin < _PAUSE and begin and end < len(flags):
            flags[begin:end] = False
    return flags


def _border(quiet: NDArray[np.bool_], end: int, limit: int) -> int:
    """Where a burst that a detector ends at `end` does end, `limit` at most."""
    if quiet[end - 1]:
        loud = np.flatnonzero(~quiet[:end])
        return int(loud[-1]) + 1 if len(loud) else 0
    until = min(limit, end + _REACH, len(quiet))
    behind = np.flatnonzero(quiet[end:until])
    if len(behind):
        return end + int(behind[0])
    return min(end + _UNSURE, limit, len(quiet))


def quietest(levels: NDArray[Any], first: int, last: int) -> int:
    """The step from `first` to before `last` where it is quietest over 40 ms; of equal ones the one nearest to the middle."""
    half = 2
    begin = max(0, first - half)
    around = levels[begin : last + half].astype(np.float32)
    power = np.pad(10.0 ** (around / 10), (half, half), mode="edge")
    smooth = np.convolve(power, np.ones(2 * half + 1), "valid")[first - begin : last - begin]
    lowest = np.flatnonzero(smooth <= smooth.min() * 1.001)
    return first + int(lowest[np.argmin(np.abs(lowest - (last - first) / 2))])
