"""Which frames of soft targets a student learns from, and which of its frames answers for them.

A CTC teacher is blank nearly everywhere, so a loss over all frames teaches mostly blank. A student that streams sees less of what comes
next, so it may answer some frames later.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asrkd.errors import ConfigError
from asrkd.targets.sparse import SparseTargets


def top_classes(targets: SparseTargets) -> Tensor:
    """(M,) int64 most probable class of each frame, the first of equal ones; -100 for a frame without entries."""
    ids, log_probs, frames = targets.ids, targets.log_probs, targets.entry_frames
    best = log_probs.new_full((targets.num_frames,), -torch.inf).scatter_reduce(0, frames, log_probs, "amax")
    # Among equal ones the first: an entry that is not the best is behind all.
    place = torch.arange(len(ids), device=ids.device).where(log_probs == best[frames], len(ids))
    first = place.new_full((targets.num_frames,), len(ids)).scatter_reduce(0, frames, place, "amin")
    return torch.cat([ids, ids.new_tensor([-100])])[first]


def around_labels(top: Tensor, lengths: Tensor, around: int, *, blank: int = 0) -> Tensor:
    """(M,) bool: the frames whose top class is not blank, and as many frames on either side of each.

    With `around` 0 this is blank elimination; more is a symmetric selection of blanks (Hilmes et al. 2025, "Analyzing the importance of
    blank for CTC-based knowledge distillation"), with which a student needs no transcripts.

    Args:
        top: (M,) most probable class of each frame (`top_classes`), utterance after utterance.
        lengths: (N,) frames of each utterance; they sum to M.
        around: frames on either side, at least 0; those of another utterance do not count.

    Raises:
        ConfigError: `around` is negative.
    """
    if around < 0:
        raise ConfigError(f"around is {around}, but must be at least 0 frames")
    label = (top != blank) & (top >= 0)
    kept = label.clone()
    utterance = torch.arange(len(lengths), device=top.device).repeat_interleave(lengths, output_size=len(top))
    for shift in range(1, min(around, len(top) - 1) + 1):
        same = utterance[shift:] == utterance[:-shift]
        kept[shift:] |= label[:-shift] & same
        kept[:-shift] |= label[shift:] & same
    return kept


def delayed(lengths: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Which of a student's frames answers for which of the teacher's, when the student may be `frames` later.

    Args:
        lengths: (N,) frames of each utterance, of both.
        frames: the delay, at least 0.

    Returns:
        (K,) int64 places of student frames, and (K,) of the teacher's, among all frames of the batch, utterance after utterance.
        The last `frames` targets of an utterance have no answer, and its first `frames` answers no target.

    Raises:
        ConfigError: the delay is negative.
    """
    if frames < 0:
        raise ConfigError(f"delay is {frames}, but must be at least 0 frames")
    starts = lengths.cumsum(0) - lengths
    total = int(lengths.sum())
    within = torch.arange(total, device=lengths.device) - starts.repeat_interleave(lengths, output_size=total)
    student = (within >= frames).nonzero()[:, 0]
    return student, student - frames


def best_path(top: Tensor, lengths: Tensor, *, blank: int = 0) -> list[list[int]]:
    """The labels of each utterance's best CTC path: repetitions are merged, then blanks dropped (Graves et al. 2006, equation 4).

    Args:
        top: (M,) most probable class of each frame, utterance after utterance.
        lengths: (N,) frames of each utterance.
    """
    return [
        [label for label in torch.unique_consecutive(part).tolist() if label != blank and label >= 0]
        for part in top.split(lengths.tolist())
    ]
