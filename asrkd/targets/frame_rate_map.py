"""Soft targets at a teacher's frame rate as soft targets at a student's, by rule; lengths follow the frame law.

`ratio` teacher frames make one student frame (a teacher of 10 ms and a student of 30 ms: 3). Where the last group is not
full, the last frame stands for the missing ones, as the frame law rounds up.
"""

from __future__ import annotations

import numpy as np

from asrkd.errors import ConfigError, MismatchError
from asrkd.targets.soft_targets import SoftTargets


def pick(targets: SoftTargets, ratio: int, num_frames: int, *, offset: int = 0) -> SoftTargets:
    """One frame of each group, the one at `offset`: for a student whose frames are taken from the teacher's.

    Raises:
        ConfigError: a ratio below 1, or an offset outside the group.
        MismatchError: `num_frames` is not what the frame law makes of the teacher's frames.
    """
    if not 0 <= offset < ratio:
        raise ConfigError(f"offset is {offset}, but a group has the {ratio} frames 0 to {ratio - 1}")
    groups = _groups(targets, ratio, num_frames)
    return take_frames(targets, groups[:, offset])


def pool(targets: SoftTargets, ratio: int, num_frames: int) -> SoftTargets:
    """The mean of the distributions of each group; the missing mass is the mean, too.

    Raises:
        ConfigError: a ratio below 1.
        MismatchError: `num_frames` is not what the frame law makes of the teacher's frames.
    """
    groups = _groups(targets, ratio, num_frames)
    full = take_frames(targets, groups.reshape(-1))
    frames = np.repeat(np.arange(num_frames), np.diff(full.row_splits[::ratio]))
    places, entry = np.unique(frames * targets.num_classes + full.ids, return_inverse=True)
    probs = np.exp(full.log_probs.astype(np.float64)) / ratio
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.bincount(entry, weights=probs, minlength=len(places)))
    counts = np.bincount(places // targets.num_classes, minlength=num_frames)
    return SoftTargets(
        row_splits=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]),
        ids=(places % targets.num_classes).astype(np.int32),
        log_probs=log_probs.astype(np.float32),
        missing=full.missing.reshape(num_frames, ratio).mean(axis=1).astype(np.float32),
        num_classes=targets.num_classes,
    )


def concatenate(targets: SoftTargets, ratio: int, num_frames: int) -> list[SoftTargets]:
    """Each frame of a group apart, `ratio` targets of `num_frames` frames: for a student with one output layer for each.

    Raises:
        ConfigError: a ratio below 1.
        MismatchError: `num_frames` is not what the frame law makes of the teacher's frames.
    """
    groups = _groups(targets, ratio, num_frames)
    return [take_frames(targets, groups[:, offset]) for offset in range(ratio)]


def take_frames(targets: SoftTargets, frames: np.ndarray) -> SoftTargets:
    """These frames (indices, with repeats) as soft targets."""
    starts, counts = targets.row_splits[frames], np.diff(targets.row_splits)[frames]
    splits = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    entries = np.repeat(starts - splits[:-1], counts) + np.arange(splits[-1])
    return SoftTargets(
        row_splits=splits,
        ids=targets.ids[entries],
        log_probs=targets.log_probs[entries],
        missing=targets.missing[frames],
        num_classes=targets.num_classes,
    )


def _groups(targets: SoftTargets, ratio: int, num_frames: int) -> np.ndarray:
    """(num_frames, ratio) teacher frame of each place."""
    if ratio < 1:
        raise ConfigError(f"the frame-rate ratio is {ratio}, but must be at least 1")
    law = -(-targets.num_frames // ratio)
    if num_frames != law:
        raise MismatchError(
            f"the targets have {targets.num_frames} frames, which at a frame-rate ratio of {ratio} make {law}, but the "
            f"student has {num_frames}; they would be shifted against each other. Use front ends with one frame law"
        )
    places = np.arange(num_frames)[:, None] * ratio + np.arange(ratio)
    return np.minimum(places, max(targets.num_frames - 1, 0))
