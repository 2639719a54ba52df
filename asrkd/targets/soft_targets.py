"""Soft targets: what a teacher believes about every frame of one utterance, kept sparsely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.errors import MismatchError


@dataclass(frozen=True)
class SoftTargets:
    """Sparse posteriors of one utterance of T frames over V classes, in CSR form.

    Attributes:
        row_splits: (T + 1,) int64; the entries of frame t are `row_splits[t]:row_splits[t + 1]`.
        ids: (E,) int32 class ids, ascending within a frame.
        log_probs: (E,) float32 natural-log probabilities at temperature 1.
        missing: (T,) float32, the probability mass not kept, in 0..1.
        num_classes: V.
    """

    row_splits: NDArray[np.int64]
    ids: NDArray[np.int32]
    log_probs: NDArray[np.float32]
    missing: NDArray[np.float32]
    num_classes: int

    def __post_init__(self) -> None:
        frames, entries = len(self.row_splits) - 1, len(self.ids)
        if frames < 0 or self.row_splits[0] != 0 or self.row_splits[-1] != entries:
            raise MismatchError(f"soft targets: row_splits do not cover the {entries} entries")
        if len(self.log_probs) != entries or len(self.missing) != frames:
            raise MismatchError(
                f"soft targets: {entries} ids, {len(self.log_probs)} log_probs, {frames} frames and "
                f"{len(self.missing)} values of missing mass do not belong together"
            )

    @property
    def num_frames(self) -> int:
        return len(self.row_splits) - 1

    def to_dense(self, fill: float = -np.inf) -> NDArray[np.float32]:
        """(T, V) float32 log-probabilities, `fill` where nothing is kept; for tests and pictures, never training."""
        dense = np.full((self.num_frames, self.num_classes), fill, dtype=np.float32)
        dense[np.repeat(np.arange(self.num_frames), np.diff(self.row_splits)), self.ids] = self.log_probs
        return dense


@dataclass(frozen=True)
class SparseBatch:
    """Soft targets of several utterances, frame after frame, in CSR form, as tensors.

    Attributes:
        row_splits: (M + 1,) int64, M the sum of the utterances' frames.
        ids: (E,) int64 class ids.
        log_probs: (E,) float32 natural-log probabilities at temperature 1.
        missing: (M,) float32 probability mass not kept.
    """

    row_splits: Tensor
    ids: Tensor
    log_probs: Tensor
    missing: Tensor

    def frames(self, places: Tensor) -> SparseBatch:
        """The targets of some frames, by their (K,) places among the M, in that order."""
        counts = self.row_splits.diff()[places]
        row_splits = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        # The entries of a frame follow each other: where its first stands, plus how far an entry is from that.
        starts = (self.row_splits[places] - row_splits[:-1]).repeat_interleave(counts)
        entries = starts + torch.arange(len(starts), device=starts.device)
        return SparseBatch(row_splits, self.ids[entries], self.log_probs[entries], self.missing[places])
