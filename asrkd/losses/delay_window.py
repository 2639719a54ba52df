"""A student that may answer each of a teacher's frames within a window of delays, at the one where it agrees best.

The temporal alignment buffer of Delayed-KD (Li et al. 2025, arXiv 2505.22069): labels of a CTC student that sees less of what comes next are late, each by as
much as it must. For teacher frame t with distribution p_t, student distributions q and delays D,

    loss_t = min_{d in D} KL(p_t || q_{t + d})

over the frames t + d that the utterance has. Here D is `delay` to `delay + window`; in the paper it begins at 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asrkd.errors import ConfigError
from asrkd.losses.frames import delayed
from asrkd.losses.soft import soft_cross_entropy
from asrkd.targets.sparse import SparseTargets


def delay_window_cross_entropy(
    logits: Tensor,
    targets: SparseTargets,
    lengths: Tensor,
    *,
    window: int,
    delay: int = 0,
    missing_mass: str = "renormalize",
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each teacher frame with the student frame of the window that is nearest to it, in nats (`soft_cross_entropy`).

    A teacher's entropy is the same for every delay, so the least cross-entropy is also the least divergence. The gradient is that of the chosen frame.

    Args:
        logits: (M, V) student logits, utterance after utterance.
        targets: of the same M frames.
        lengths: (N,) frames of each utterance; they sum to M.
        window: delays in addition to the first, at least 0.
        delay: the first delay, at least 0.

    Returns:
        (M,) losses, 0 for the last `delay` frames of an utterance, which have no answer; and (M,) int64 chosen delays, -1 for those frames. Of equal losses
        the shorter delay is taken.

    Raises:
        ConfigError: `window` or `delay` is negative, or as `soft_cross_entropy`.
        MismatchError: as `soft_cross_entropy`.
    """
    if window < 0:
        raise ConfigError(f"delay_window is {window}, but must be at least 0 frames")
    losses = []
    for shift in range(delay, delay + window + 1):
        student, teacher = delayed(lengths, shift)
        one = soft_cross_entropy(
            logits[student],
            targets.frames(teacher),
            missing_mass=missing_mass,
            temperature=temperature,
            reduction="none",
        )
        losses.append(one.new_full((len(logits),), torch.inf).index_put((teacher,), one))
    least, chosen = torch.stack(losses).min(dim=0)
    answered = least < torch.inf
    return torch.where(answered, least, 0.0), torch.where(answered, chosen + delay, -1)
