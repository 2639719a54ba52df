"""Soft targets at a teacher's frame rate as soft targets at a student's, by rule; the number of frames follows the frame laws.

Frames are compared by time (`FrameRates`), so that any two frame laws at one sampling rate will do: a student's frames may be longer or shorter than the teacher's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch

from asrkd.errors import ConfigError
from asrkd.targets.frame_rates import FrameRates
from asrkd.targets.sparse import SparseTargets, summed

_SPEC = re.compile(r"pool|nearest|peak|pick(:\d+)?")


@dataclass(frozen=True)
class FrameRateMap:
    """A rule by name, as a training config names it: `pool`, `nearest`, `peak`, `pick` or `pick:OFFSET`.

    (`concatenate` makes several targets of one, for models with several output layers: call it from your own training loop.)
    """

    spec: str

    def __post_init__(self) -> None:
        if not _SPEC.fullmatch(self.spec):
            raise ConfigError(
                f"frame-rate map {self.spec!r} is not known; give pool, nearest, peak, pick or pick:OFFSET"
            )

    @property
    def needs_blank(self) -> bool:
        """Whether class 0 must be the blank of CTC."""
        return self.spec == "peak"

    def check(self, rates: FrameRates) -> None:
        """Raise `MismatchError` or `ConfigError` if the rule cannot map these frame laws."""
        if self.spec.startswith("pick"):
            _offset(self._offset, rates.ratio)

    def __call__(self, targets: SparseTargets, rates: FrameRates, num_frames: int) -> SparseTargets:
        """The student's targets; see `pool`, `nearest`, `peak` and `pick`."""
        if rule := _BY_TIME.get(self.spec):
            return rule(targets, rates, num_frames)
        return pick(targets, rates, num_frames, offset=self._offset)

    @property
    def _offset(self) -> int:
        return int(self.spec.partition(":")[2] or 0)


def pool(targets: SparseTargets, rates: FrameRates, num_frames: int) -> SparseTargets:
    """The mean of the distributions that a student's frame overlaps, by the share of each; the missing mass is the mean, too.

    Raises:
        MismatchError: `num_frames` is not what the frame laws make of the teacher's frames.
    """
    rates.check(targets.num_frames, num_frames)
    if not targets.num_frames:
        return _nothing(targets, num_frames)
    counts, places, shares = rates.overlaps(targets.num_frames, num_frames)
    full = targets.frames(torch.from_numpy(places))
    entries = full.counts.numpy()
    frames = np.repeat(np.arange(num_frames), counts)
    probs = np.exp(full.log_probs.numpy().astype(np.float64)) * np.repeat(shares, entries)
    kept = summed(np.repeat(frames, entries), full.ids.numpy(), probs, num_frames, targets.num_classes)
    missing = np.bincount(frames, weights=full.missing.numpy() * shares, minlength=num_frames)
    return SparseTargets.of_counts(*kept, torch.from_numpy(missing.astype(np.float32)), targets.num_classes)


def nearest(targets: SparseTargets, rates: FrameRates, num_frames: int) -> SparseTargets:
    """The teacher's distribution at the middle of each of the student's frames: repeated where the teacher is slower.

    Raises:
        MismatchError: `num_frames` is not what the frame laws make of the teacher's frames.
    """
    rates.check(targets.num_frames, num_frames)
    if not targets.num_frames:
        return _nothing(targets, num_frames)
    return targets.frames(torch.from_numpy(rates.nearest(targets.num_frames, num_frames)))


def peak(targets: SparseTargets, rates: FrameRates, num_frames: int, *, blank: int = 0) -> SparseTargets:
    """For CTC: of the teacher's distributions whose middles a student's frame has, the one that is blank least; without any, the `nearest`.

    So a label is not lost to a blank next to it. A slower teacher's distributions are repeated, never parted by blanks, which would make two labels of one that
    lasts.

    Args:
        blank: class id of the blank.

    Raises:
        MismatchError: `num_frames` is not what the frame laws make of the teacher's frames.
    """
    rates.check(targets.num_frames, num_frames)
    if not num_frames or not targets.num_frames:
        return _nothing(targets, num_frames)
    homes = rates.homes(targets.num_frames, num_frames)
    is_blank = targets.ids == blank
    blanks = np.zeros(targets.num_frames)
    blanks[targets.entry_frames[is_blank].numpy()] = targets.log_probs[is_blank].exp().numpy()
    order = np.lexsort((blanks, homes))
    chosen = rates.nearest(targets.num_frames, num_frames)
    taken, first = np.unique(homes[order], return_index=True)
    chosen[taken] = order[first]
    return targets.frames(torch.from_numpy(chosen))


def pick(targets: SparseTargets, rates: FrameRates, num_frames: int, *, offset: int = 0) -> SparseTargets:
    """One frame of each group, the one at `offset`: for a student whose frames are taken from the teacher's.

    Raises:
        ConfigError: an offset outside the group.
        MismatchError: the teacher's frames do not make groups, or `num_frames` is not what the frame laws make of them.
    """
    _offset(offset, rates.ratio)
    rates.check(targets.num_frames, num_frames)
    if not targets.num_frames:
        return _nothing(targets, num_frames)
    places = torch.arange(num_frames) * rates.ratio + offset
    return targets.frames(places.clamp(max=targets.num_frames - 1))


def concatenate(targets: SparseTargets, rates: FrameRates, num_frames: int) -> list[SparseTargets]:
    """Each frame of a group apart, as many targets of `num_frames` frames as a group has: for a student with one output layer for each.

    Raises:
        MismatchError: the teacher's frames do not make groups, or `num_frames` is not what the frame laws make of them.
    """
    return [pick(targets, rates, num_frames, offset=offset) for offset in range(rates.ratio)]


def _offset(offset: int, ratio: int) -> None:
    if not 0 <= offset < ratio:
        raise ConfigError(f"offset is {offset}, but a group has the {ratio} frames 0 to {ratio - 1}")


def _nothing(targets: SparseTargets, num_frames: int) -> SparseTargets:
    """The student's frames of an utterance that is too short for the teacher: without targets, and without mass that is missing."""
    counts = targets.counts.new_zeros(num_frames)
    missing = targets.missing.new_zeros(num_frames)
    return SparseTargets.of_counts(counts, targets.ids[:0], targets.log_probs[:0], missing, targets.num_classes)


_BY_TIME = {"pool": pool, "nearest": nearest, "peak": peak}
