"""Overlapping windows of a recording: a teacher is given a whole window, and the frames in the middle, which no other window has, are stored.

A window is a cut with the custom field `window_owns`, `[from, to]` in seconds from its beginning; `to` is null in a recording's last window, which owns all that
follows. Windows begin, and change hands, at multiples of `GRID_SECONDS`, so their frames are those of the whole recording for every frame shift that divides it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asrkd.corpus.frame_law import FrameLaw
from asrkd.errors import ConfigError, CorpusError

OWNS = "window_owns"
# The least common multiple of frame shifts of 10, 20, 30, 40, 60 and 80 ms.
GRID_SECONDS = 0.24


@dataclass(frozen=True)
class RecordingWindow:
    """A window, in seconds of its recording: from where to where it reaches, and what of that is its own (`owns_to`: None to the end)."""

    begin: float
    end: float
    owns_from: float
    owns_to: float | None


def windows_of(seconds: float, length: float, overlap: float) -> list[RecordingWindow]:
    """Windows of `length` seconds that share about `overlap` with the next one, over a recording; each moment is one window's own."""
    hop = length - overlap
    count = max(1, math.ceil((seconds - overlap) / hop - 1e-9))
    begins = [_on_grid(number * hop) for number in range(count)]
    while len(begins) > 1 and begins[-2] + length >= seconds:  # rounding has made the last one needless
        begins.pop()
    borders = [_on_grid(begin + overlap / 2) for begin in begins[1:]]
    return [
        RecordingWindow(begin, min(begin + length, seconds) if to is not None else seconds, own, to)
        for begin, own, to in zip(begins, [0.0, *borders], [*borders, None], strict=True)
    ]


def _on_grid(seconds: float) -> float:
    return round(math.floor(seconds / GRID_SECONDS + 1e-9) * GRID_SECONDS, 6)


@dataclass(frozen=True)
class OwnedSamples:
    """The samples of a window that its own frames are made of."""

    first: int
    count: int


def owned_samples(cut: Mapping[str, Any], num_samples: int, law: FrameLaw, sampling_rate: int) -> OwnedSamples | None:
    """What a window owns of its samples; None for a cut that is not a window.

    Args:
        cut: in lhotse's JSON form.
        num_samples: of the whole window.
        law: of the features.

    Raises:
        CorpusError: the field is not what `windows_of` makes, or the window ends before the last frame that it owns.
    """
    owned = owned_seconds(cut)
    if owned is None:
        return None
    begin, end = (None if at is None else round(at * sampling_rate) for at in owned)
    what = f"cut {cut['id']!r} owns {owned[0]:g} to {'its end' if owned[1] is None else f'{owned[1]:g} s'}"
    if any((at or 0) % law.frame_shift for at in (begin, end)):
        raise CorpusError(f"{what}, which are not whole frames of {law.frame_shift} samples; make the windows again")
    first = begin or 0
    if end is None:
        return OwnedSamples(first, num_samples - first)
    frames = (end - first) // law.frame_shift
    # The last frames see a little of what follows.
    count = min(law.lengths_of(frames)[1], num_samples - first)
    if law.num_frames(count) != frames:
        raise CorpusError(
            f"{what}, but is {num_samples / sampling_rate:.2f} s long, too short for its last frame; make windows with more overlap"
        )
    return OwnedSamples(first, count)


def owned_seconds(cut: Mapping[str, Any]) -> tuple[float, float | None] | None:
    """The custom field of a window; None for a cut that is not one.

    Raises:
        CorpusError: the field is not two times.
    """
    custom = cut.get("custom")
    if not custom or OWNS not in custom:
        return None
    owned = custom[OWNS]
    if not (
        isinstance(owned, list) and len(owned) == 2 and _is_time(owned[0]) and (owned[1] is None or _is_time(owned[1]))
    ):
        raise CorpusError(
            f"cut {cut['id']!r} has the custom field {OWNS} {owned!r}, but must have [from, to] in seconds; make the windows again"
        )
    begin, end = owned
    if (cut["duration"] if end is None else end) <= begin or (end is not None and end > cut["duration"]):
        raise CorpusError(
            f"cut {cut['id']!r} owns {begin:g} to {end} s of its {cut['duration']:g} s; windows must not be cut again: make them again"
        )
    return begin, end


def check_frame_shift(law: FrameLaw, sampling_rate: int) -> None:
    """Raise `ConfigError` unless windows of a recording have the frames of the whole."""
    if round(GRID_SECONDS * sampling_rate) % law.frame_shift:
        raise ConfigError(
            f"overlapping windows begin at multiples of {GRID_SECONDS:g} s, which is not a multiple of the frame shift of {law.frame_shift} samples at "
            f"{sampling_rate} Hz, so their frames would not be those of the whole recording; segment without --windows"
        )


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
