"""Vectors: what a teacher's layer says about every frame of one or more utterances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FrameVectors:
    """Vectors of M frames: those of U utterances, one after another.

    Attributes:
        values: (M, D) float32 numbers, or (M, C) int64 indexes of codebooks.
        lengths: (U,) int64 frames of each utterance; they sum to M.
    """

    values: Tensor
    lengths: Tensor

    @property
    def num_frames(self) -> int:
        """M."""
        return len(self.values)

    @classmethod
    def cat(cls, parts: Sequence[FrameVectors]) -> FrameVectors:
        """The utterances of all parts, one after another; at least one part."""
        return cls(torch.cat([part.values for part in parts]), torch.cat([part.lengths for part in parts]))

    def frames(self, places: Tensor) -> FrameVectors:
        """The vectors of some frames, by their (K,) places among the M, in that order, with repeats; as one utterance."""
        return FrameVectors(self.values[places], self.lengths.new_tensor([len(places)]))

    def map(self, change: Callable[[Tensor], Tensor]) -> FrameVectors:
        """With every tensor changed, e.g. moved to a device."""
        return FrameVectors(change(self.values), change(self.lengths))

    def padded(self) -> Tensor:
        """(U, longest, D) with zeros after the shorter utterances."""
        parts = self.values.split(self.lengths.tolist())
        return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
