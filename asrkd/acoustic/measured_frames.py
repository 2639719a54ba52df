"""The frame law of a model that says nothing about its frames: counted on utterances of chosen lengths.

Strided convolutions, stacked frames and filterbanks, one after another, make 1 + (n - needed) // shift frames of n samples, whatever their padding.
So the length at which one more frame appears gives both numbers, and a few other lengths show whether the rule holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from asrkd.corpus.frame_law import FrameLaw

# Seconds of the shortest utterance that is tried; shorter ones may be refused by a model's convolutions.
_FIRST_SECONDS = 0.25
_LONGEST_SECONDS = 8.0
# Frames of the shortest one, so that the edges of an utterance do not meet.
_FRAMES = 3


class NoFrameLaw(ValueError):
    """Frames of a model that do not follow from the number of samples by a fixed shift."""


def measured_law(count: Callable[[int], int], sampling_rate: int) -> FrameLaw:
    """The frame law of a model that makes `count(num_samples)` frames.

    The middle of the first frame is taken to be that of the fewest samples that make one, as with any padding that is the same at both ends.

    Raises:
        NoFrameLaw: every length makes as many frames, or they do not come at a fixed shift.
        Exception: what `count` raises at a length that a model should take.
    """
    count = functools.lru_cache(maxsize=None)(count)
    first = _first_length(count, sampling_rate)
    frames = count(first)
    # The next frame appears within twice the shift that two lengths show.
    slope = max(1, -(-2 * first // (count(3 * first) - frames)))
    border = _border(count, first, first + 2 * slope)
    known = count(border)
    shift = _shift(count, border, known, sampling_rate, slope)
    needed = border - (known - 1) * shift
    for num_samples in (first, border + 3 * shift - 1, border + 3 * shift, 3 * first, border + first + 7 * shift // 5):
        expected = 1 + (num_samples - needed) // shift
        if count(num_samples) != expected:
            raise NoFrameLaw(
                f"{count(num_samples)} frames of {num_samples} samples, where a shift of {shift} samples makes {expected}"
            )
    window = max(needed, shift)
    return FrameLaw(window, shift, begin=(needed - window) // 2, needed=None if needed == window else needed)


def _first_length(count: Callable[[int], int], sampling_rate: int) -> int:
    """A length at which the model has a few frames."""
    seconds, failure = _FIRST_SECONDS, None
    while seconds <= _LONGEST_SECONDS:
        num_samples = int(seconds * sampling_rate)
        try:
            if count(num_samples) >= _FRAMES:
                if count(3 * num_samples) == count(num_samples):
                    raise NoFrameLaw(
                        f"{count(num_samples)} frames of {num_samples} samples as of {3 * num_samples}: it reads windows of a fixed length only"
                    )
                return num_samples
        except NoFrameLaw:
            raise
        except Exception as error:  # too short for it, or it takes nothing at all
            failure = error
        seconds *= 2
    if failure is not None:
        raise failure
    raise NoFrameLaw(f"fewer than {_FRAMES} frames of {_LONGEST_SECONDS:.0f} s")


def _border(count: Callable[[int], int], below: int, above: int) -> int:
    """The least length with more frames than `below` has."""
    frames = count(below)
    if count(above) <= frames:
        raise NoFrameLaw(f"{count(above)} frames of {above} samples, but {frames} of {below}")
    while above - below > 1:
        middle = (below + above) // 2
        if count(middle) > frames:
            above = middle
        else:
            below = middle
    return above


def _shift(count: Callable[[int], int], border: int, frames: int, sampling_rate: int, slope: int) -> int:
    """Samples to the border of the next frame: multiples of 10 ms, which most have, are tried before it is searched for."""
    unit = sampling_rate // 100
    for number in (2, 4, 8, 1, 3, 6, 12, 16):
        if unit * number <= 2 * slope and count(border + unit * number) > frames:
            if count(border + unit * number) == frames + 1 and count(border + unit * number - 1) == frames:
                return unit * number
    return _border(count, border, border + 2 * slope) - border
