"""Losses on what a layer of the teacher gives (feature-based distillation), frame by frame.

Student features of another width go through a layer of the student's own first (a "regressor", Romero et al. 2015, "FitNets").
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from asrkd.errors import ConfigError, MismatchError


def feature_mse(student: Tensor, teacher: Tensor, *, reduction: str = "sum") -> Tensor:
    """Squared error of each frame, averaged over its D dimensions (FitNets, equation 3, by frame).

    Args:
        student, teacher: (M, D) features of M frames.
        reduction: `sum` (a scalar) or `none` (M,).

    Raises:
        MismatchError: the shapes differ.
        ConfigError: an unknown reduction.
    """
    _check(student, teacher)
    exact = _exact(student)
    return _reduced((student.to(exact) - teacher.to(exact)).square().mean(dim=1), reduction)


def feature_cosine(student: Tensor, teacher: Tensor, *, reduction: str = "sum") -> Tensor:
    """One less the cosine of the angle between the two (Sanh et al. 2019, "DistilBERT"); 1 where one of them is 0.

    Arguments and errors as in `feature_mse`.
    """
    _check(student, teacher)
    exact = _exact(student)
    return _reduced(1 - functional.cosine_similarity(student.to(exact), teacher.to(exact), dim=1), reduction)


def codebook_cross_entropy(logits: Tensor, indexes: Tensor, *, reduction: str = "sum") -> Tensor:
    """Cross-entropy with the teacher's multi-codebook indexes, in nats (Guo et al. 2022, "Predicting multi-codebook vector
    quantization indexes for knowledge distillation", equation 6): what a layer of the teacher said, in a few bytes a frame.

    Args:
        logits: (M, C, K) student logits for each of C codebooks of K entries.
        indexes: (M, C) int64, from 0 to K - 1.
        reduction: `sum` (a scalar) or `none` (M,), the sum over codebooks.

    Raises:
        MismatchError: the shapes differ, or an index is outside its codebook.
        ConfigError: an unknown reduction.
    """
    if indexes.shape != logits.shape[:2]:
        raise MismatchError(
            f"the student gives (frames, codebooks) {tuple(logits.shape[:2])}, the stored indexes have {tuple(indexes.shape)}; "
            "they are of another quantizer or frame rate"
        )
    if len(indexes) and not 0 <= int(indexes.min()) <= int(indexes.max()) < logits.shape[2]:
        raise MismatchError(
            f"codebook indexes are {int(indexes.min())}..{int(indexes.max())}, the student has {logits.shape[2]} entries a codebook; "
            "they are of another quantizer"
        )
    log_q = logits.log_softmax(dim=2, dtype=_exact(logits))
    return _reduced(-log_q.gather(2, indexes[:, :, None]).sum(dim=(1, 2)), reduction)


def _check(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise MismatchError(
            f"the student's features are (frames, dimensions) {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}; "
            "give the student a linear layer to the teacher's width, and the same frame rate"
        )


def _exact(values: Tensor) -> torch.dtype:
    """At least single precision."""
    return torch.promote_types(values.dtype, torch.float32)


def _reduced(frames: Tensor, reduction: str) -> Tensor:
    if reduction not in ("sum", "none"):
        raise ConfigError(f"reduction is {reduction!r}, but must be 'sum' or 'none'")
    return frames.sum() if reduction == "sum" else frames
