"""Losses on relations: not what the teacher gives, but how alike it finds frames or utterances, and where it looks.

Widths may differ, because only similarities are compared; no layer of the student's own is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from asrkd.errors import MismatchError


def frame_similarity(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Squared difference between the cosines of all pairs of frames of an utterance (Tung & Mori 2019, "Similarity-preserving
    knowledge distillation", equation 4, on frames in place of images).

    Args:
        student: (N, T, D) features, padded.
        teacher: (N, T, D') features, padded.
        lengths: (N,) frames of each utterance.

    Returns:
        The sum over utterances of the mean over an utterance's pairs times its frames: a loss per frame when divided by the frames.

    Raises:
        MismatchError: the numbers of utterances or frames differ.
    """
    _same(student, teacher, 2, "utterances, frames")
    difference = _cosines(student) - _cosines(teacher)
    mask = torch.arange(student.shape[1], device=student.device)[None] < lengths[:, None]
    pairs = mask[:, :, None] & mask[:, None, :]
    return (difference.square() * pairs).sum(dim=(1, 2)).div(lengths.clamp(min=1)).sum()


def utterance_similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference between the cosines of all pairs of a batch's utterances, the mean over pairs (Tung & Mori 2019).

    Args:
        student: (N, D) an embedding of each utterance.
        teacher: (N, D').

    Raises:
        MismatchError: the numbers of utterances differ.
    """
    _same(student, teacher, 1, "utterances")
    return (_cosines(student) - _cosines(teacher)).square().mean()


def attention_transfer(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """Distance between where two layers are active: the energy of each frame, as a vector of length 1 over the utterance
    (Zagoruyko & Komodakis 2017, "Paying more attention to attention", equation 2 with p = 2, over time).

    Args:
        student: (N, T, D) features, padded.
        teacher: (N, T, D').
        lengths: (N,) frames of each utterance.

    Returns:
        The sum over utterances of the squared distance, 0 to 2 each.

    Raises:
        MismatchError: the numbers of utterances or frames differ.
    """
    _same(student, teacher, 2, "utterances, frames")
    mask = torch.arange(student.shape[1], device=student.device)[None] < lengths[:, None]
    maps = [
        functional.normalize(_exact(features).square().mean(dim=2) * mask, dim=1) for features in (student, teacher)
    ]
    return (maps[0] - maps[1]).square().sum()


def attention_kl(student: Tensor, teacher: Tensor, lengths: Tensor) -> Tensor:
    """KL(teacher || student) between self-attention distributions, in nats, the mean over heads (Wang et al. 2020, "MiniLM", equation 4).

    Args:
        student, teacher: (N, H, T, T) attention weights, each row a distribution over the frames of the utterance.
        lengths: (N,) frames of each utterance.

    Returns:
        The sum over utterances and frames: a loss per frame when divided by the frames.

    Raises:
        MismatchError: the shapes differ.
    """
    _same(student, teacher, 4, "utterances, heads, frames, frames")
    student, teacher = _exact(student), _exact(teacher)
    mask = torch.arange(student.shape[2], device=student.device)[None] < lengths[:, None]
    pairs = (mask[:, None, :, None] & mask[:, None, None, :]).expand_as(student)
    # What is padded gets weights of 1, whose terms are 0 with a gradient that is not NaN.
    student, teacher = student.where(pairs, 1.0), teacher.where(pairs, 1.0)
    terms = torch.xlogy(teacher, teacher) - torch.where(teacher > 0, teacher * student.log(), 0.0)
    return terms.sum() / student.shape[1]


def _cosines(features: Tensor) -> Tensor:
    """(..., T, D) -> (..., T, T)."""
    unit = functional.normalize(_exact(features), dim=-1)
    return unit @ unit.transpose(-1, -2)


def _exact(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _same(student: Tensor, teacher: Tensor, axes: int, what: str) -> None:
    if student.shape[:axes] != teacher.shape[:axes]:
        raise MismatchError(
            f"the student has ({what}) {tuple(student.shape[:axes])}, the teacher {tuple(teacher.shape[:axes])}; "
            "give both the same batch at the same frame rate"
        )
