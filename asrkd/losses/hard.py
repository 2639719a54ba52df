"""Losses against hard labels: an alignment, frame by frame, or a transcript by CTC."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from asrkd.errors import ConfigError, MismatchError

PADDING = -100


def frame_cross_entropy(logits: Tensor, alignment: Tensor, *, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
    """Cross-entropy of each frame with its label, in nats.

    Args:
        logits: (N, T', V) student logits.
        alignment: (N, T') int64 class ids, `PADDING` (-100) where there is no label.
        label_smoothing: share of a label's mass that is spread evenly over all V classes (Szegedy et al. 2016, section 7).

    Returns:
        The sum over the labeled frames (a scalar; 0 without any), and how many there are.

    Raises:
        MismatchError: the shapes differ, or a label is not a class of the student.
        ConfigError: a label smoothing outside 0..1.
    """
    if not 0 <= label_smoothing <= 1:
        raise ConfigError(f"label_smoothing is {label_smoothing}, but must be a share from 0 to 1")
    if alignment.shape != logits.shape[:2]:
        raise MismatchError(
            f"the model gives (utterances, frames) {tuple(logits.shape[:2])}, the alignments have "
            f"{tuple(alignment.shape)}; they are of another front end or subsampling factor"
        )
    labeled = alignment != PADDING
    if bool((labeled & ((alignment < 0) | (alignment >= logits.shape[2]))).any()):
        raise MismatchError(
            f"the alignments have class ids {int(alignment[labeled].min())}..{int(alignment[labeled].max())}, the model "
            f"has {logits.shape[2]} classes; they are of another inventory"
        )
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = functional.cross_entropy(
        exact.transpose(1, 2), alignment, ignore_index=PADDING, reduction="sum", label_smoothing=label_smoothing
    )
    return loss, int(labeled.sum())


def ctc_loss(
    logits: Tensor,
    lengths: Tensor,
    tokens: Sequence[Sequence[int]],
    *,
    blank: int = 0,
    weights: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Connectionist temporal classification (Graves et al. 2006, equation 8), in nats.

    Args:
        logits: (N, T', V) student logits.
        lengths: (N,) int64 frames of each utterance.
        tokens: for each utterance its class ids, without blanks.
        blank: class id of the blank.
        weights: (N,) factors of the utterances' losses; None for 1.

    Returns:
        The sum of -log P(tokens) over the utterances that can be aligned (a scalar), and how many cannot: they have
        fewer frames than tokens plus blanks between equal neighbors, and count 0 with no gradient.

    Raises:
        MismatchError: the numbers of utterances differ.
    """
    if not len(logits) == len(lengths) == len(tokens):
        raise MismatchError(
            f"CTC: {len(logits)} utterances of logits, {len(lengths)} lengths and {len(tokens)} transcripts do not "
            "belong together"
        )
    exact = torch.promote_types(logits.dtype, torch.float32)
    needed = [len(one) + sum(a == b for a, b in zip(one, one[1:], strict=False)) for one in tokens]
    too_short = sum(need > have for need, have in zip(needed, lengths.tolist(), strict=True))
    losses = functional.ctc_loss(
        logits.log_softmax(-1, dtype=exact).transpose(0, 1),
        torch.tensor([unit for one in tokens for unit in one], dtype=torch.int64, device=logits.device),
        lengths,
        torch.tensor([len(one) for one in tokens], dtype=torch.int64, device=logits.device),
        blank=blank,
        reduction="sum" if weights is None else "none",
        zero_infinity=True,
    )
    return losses if weights is None else (losses * weights.to(losses)).sum(), too_short
