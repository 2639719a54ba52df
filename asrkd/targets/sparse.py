"""Sparse targets: what a teacher believes about every frame of one or more utterances."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.errors import MismatchError


@dataclass(frozen=True)
class SparseTargets:
    """Sparse posteriors of M frames over V classes in CSR form: those of U utterances, one after another (of one: U = 1).

    Attributes:
        row_splits: (M + 1,) int64; the entries of frame t are `row_splits[t]:row_splits[t + 1]`.
        ids: (E,) int64 class ids, ascending within a frame.
        log_probs: (E,) float32 natural-log probabilities at temperature 1.
        missing: (M,) float32, the probability mass not kept, in 0..1.
        num_classes: V.
        lengths: (U,) int64 frames of each utterance; they sum to M.

    Raises:
        MismatchError: tensors that do not belong together.
    """

    row_splits: Tensor
    ids: Tensor
    log_probs: Tensor
    missing: Tensor
    num_classes: int
    lengths: Tensor

    def __post_init__(self) -> None:
        frames, entries = self.row_splits.numel() - 1, self.ids.numel()
        if self.log_probs.numel() != entries or self.missing.numel() != frames:
            raise MismatchError(
                f"soft targets: {entries} ids, {self.log_probs.numel()} log_probs, {frames} frames and "
                f"{self.missing.numel()} values of missing mass do not belong together"
            )
        if self.row_splits.device.type != "cpu":
            return  # Looking at values would wait for the device.
        # By numpy, whose calls cost less: an utterance read alone is small.
        splits, length = self.row_splits.numpy(), int(self.lengths.numpy().sum())
        if frames < 0 or splits[0] != 0 or splits[-1] != entries:
            raise MismatchError(f"soft targets: row_splits do not cover the {entries} entries")
        if length != frames:
            raise MismatchError(f"soft targets: utterances of {length} frames have targets of {frames}")

    @classmethod
    def of_counts(
        cls,
        counts: Tensor,
        ids: Tensor,
        log_probs: Tensor,
        missing: Tensor,
        num_classes: int,
        lengths: Tensor | None = None,
    ) -> SparseTargets:
        """From (M,) numbers of entries in place of `row_splits`; `lengths` None: one utterance."""
        splits = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        lengths = counts.new_tensor([len(counts)]) if lengths is None else lengths
        return cls(splits, ids, log_probs, missing, num_classes, lengths)

    @classmethod
    def cat(cls, parts: Sequence[SparseTargets]) -> SparseTargets:
        """The utterances of all parts, one after another; at least one part.

        Raises:
            MismatchError: they are over different numbers of classes.
        """
        if len(parts) == 1:
            return parts[0]
        if len({part.num_classes for part in parts}) > 1:
            found = ", ".join(str(count) for count in sorted({part.num_classes for part in parts}))
            raise MismatchError(f"soft targets over {found} classes cannot be joined; their classes are not the same")
        counts, ids, log_probs, missing, lengths = (
            torch.cat([getattr(part, name) for part in parts])
            for name in ("counts", "ids", "log_probs", "missing", "lengths")
        )
        return cls.of_counts(counts, ids, log_probs, missing, parts[0].num_classes, lengths)

    @property
    def num_frames(self) -> int:
        """M."""
        return len(self.missing)

    @property
    def counts(self) -> Tensor:
        """(M,) int64 entries of each frame."""
        return self.row_splits.diff()

    @property
    def entry_frames(self) -> Tensor:
        """(E,) int64 the frame of each entry, among the M."""
        frames = torch.arange(self.num_frames, device=self.ids.device)
        return frames.repeat_interleave(self.counts, output_size=len(self.ids))

    def frames(self, places: Tensor) -> SparseTargets:
        """The targets of some frames, by their (K,) places among the M, in that order, with repeats; as one utterance."""
        counts = self.counts[places]
        row_splits = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        # The entries of a frame follow each other: where its first is, plus how far an entry is from that.
        starts = (self.row_splits[places] - row_splits[:-1]).repeat_interleave(counts)
        entries = starts + torch.arange(len(starts), device=starts.device)
        lengths = counts.new_tensor([len(counts)])
        values = (self.ids.index_select(0, entries), self.log_probs.index_select(0, entries), self.missing[places])
        return SparseTargets(row_splits, *values, self.num_classes, lengths)

    def map(self, change: Callable[[Tensor], Tensor]) -> SparseTargets:
        """With every tensor changed, e.g. moved to a device."""
        row_splits, ids, log_probs, missing, lengths = map(
            change, (self.row_splits, self.ids, self.log_probs, self.missing, self.lengths)
        )
        return SparseTargets(row_splits, ids, log_probs, missing, self.num_classes, lengths)

    def to_dense(self, fill: float = -math.inf) -> Tensor:
        """(M, V) log-probabilities, `fill` where nothing is kept; for tests and pictures, never training."""
        dense = self.log_probs.new_full((self.num_frames, self.num_classes), fill)
        dense[self.entry_frames, self.ids] = self.log_probs
        return dense


def summed(
    frames: NDArray[np.int64], classes: NDArray[np.int64], probs: NDArray[np.float64], num_frames: int, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Entries of equal frame and class as one, of their sum: counts (M,), ids (E,) and log-probabilities (E,) float32.

    With numpy, whose `unique` and masks are three times as fast on a CPU as torch's.

    Args:
        frames, classes, probs: (K,) in any order.
    """
    places, entry = np.unique(frames * num_classes + classes, return_inverse=True)
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.bincount(entry, weights=probs, minlength=len(places))).astype(np.float32)
    counts = np.bincount(places // num_classes, minlength=num_frames)
    return torch.from_numpy(counts), torch.from_numpy(places % num_classes), torch.from_numpy(log_probs)
