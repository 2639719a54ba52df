"""Soft targets at a teacher's frame rate as soft targets at a student's, by rule; lengths follow the frame law.

`ratio` teacher frames make one student frame (a teacher of 10 ms and a student of 30 ms: 3). Where the last group is not
full, the student's frame law decides: it rounds up (subsampling), and the last frame stands for the missing ones, or down
(stacking), and the rest is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asrkd.corpus.frame_law import FrameLaw
from asrkd.errors import ConfigError, MismatchError
from asrkd.targets.sparse import SparseTargets, summed


@dataclass(frozen=True)
class FrameRateMap:
    """A rule by name, as a training config names it: `pick`, `pick:OFFSET` or `pool`.

    (`concatenate` makes several targets of one, for models with several output layers: call it from your own training loop.)
    """

    spec: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"pool|pick(:\d+)?", self.spec):
            raise ConfigError(f"frame-rate map {self.spec!r} is not known; give pick, pick:OFFSET or pool")

    def __call__(self, targets: SparseTargets, ratio: int, num_frames: int) -> SparseTargets:
        """The student's targets; see `pick` and `pool`."""
        if self.spec == "pool":
            return pool(targets, ratio, num_frames)
        return pick(targets, ratio, num_frames, offset=int(self.spec.partition(":")[2] or 0))


def ratio_of(teacher: FrameLaw, student: FrameLaw, *, what: str) -> int:
    """How many frames of a teacher make one of a student.

    Raises:
        MismatchError: windows of another length, or a frame shift that is not a multiple of the teacher's.
    """

    def windows(law: FrameLaw) -> tuple[int, ...]:
        return law.window, law.shift, law.begin, law.needed

    ratio, rest = divmod(student.frame_shift, teacher.frame_shift)
    if rest or not ratio or windows(student) != windows(teacher):
        raise MismatchError(
            f"{what} was made with the frame law {teacher}, the student's is {student}; a frame-rate map needs the same window and "
            "shift, and a student's frame shift that is a multiple of the teacher's. Change the student's front end"
        )
    return ratio


def pick(targets: SparseTargets, ratio: int, num_frames: int, *, offset: int = 0) -> SparseTargets:
    """One frame of each group, the one at `offset`: for a student whose frames are taken from the teacher's.

    Raises:
        ConfigError: a ratio below 1, or an offset outside the group.
        MismatchError: `num_frames` is not what the frame law makes of the teacher's frames.
    """
    if not 0 <= offset < ratio:
        raise ConfigError(f"offset is {offset}, but a group has the {ratio} frames 0 to {ratio - 1}")
    groups = _groups(targets, ratio, num_frames)
    return targets.frames(groups[:, offset])


def pool(targets: SparseTargets, ratio: int, num_frames: int) -> SparseTargets:
    """The mean of the distributions of each group; the missing mass is the mean, too.

    Raises:
        ConfigError: a ratio below 1.
        MismatchError: `num_frames` is not what the frame law makes of the teacher's frames.
    """
    groups = _groups(targets, ratio, num_frames)
    full = targets.frames(groups.reshape(-1))
    frames = np.repeat(np.arange(num_frames), full.row_splits[::ratio].diff().numpy())
    probs = np.exp(full.log_probs.numpy().astype(np.float64)) / ratio
    entries = summed(frames, full.ids.numpy(), probs, num_frames, targets.num_classes)
    missing = full.missing.view(num_frames, ratio).mean(dim=1)
    return SparseTargets.of_counts(*entries, missing, targets.num_classes)


def concatenate(targets: SparseTargets, ratio: int, num_frames: int) -> list[SparseTargets]:
    """Each frame of a group apart, `ratio` targets of `num_frames` frames: for a student with one output layer for each.

    Raises:
        ConfigError: a ratio below 1.
        MismatchError: `num_frames` is not what the frame law makes of the teacher's frames.
    """
    groups = _groups(targets, ratio, num_frames)
    return [targets.frames(groups[:, offset]) for offset in range(ratio)]


def _groups(targets: SparseTargets, ratio: int, num_frames: int) -> Tensor:
    """(num_frames, ratio) teacher frame of each place."""
    if ratio < 1:
        raise ConfigError(f"the frame-rate ratio is {ratio}, but must be at least 1")
    lowest, highest = targets.num_frames // ratio, -(-targets.num_frames // ratio)
    if not lowest <= num_frames <= highest:
        raise MismatchError(
            f"the targets have {targets.num_frames} frames, which at a frame-rate ratio of {ratio} make {lowest} to {highest}, "
            f"but the student has {num_frames}; they would be shifted against each other. Use front ends of one frame law"
        )
    places = torch.arange(num_frames)[:, None] * ratio + torch.arange(ratio)
    return places.clamp(max=max(targets.num_frames - 1, 0))
