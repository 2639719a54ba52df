"""Several students of one shape in one model, for mutual learning."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Peers(nn.Module):
    """Students with weights of their own that hear the same batches.

    In training the logits of all come one student after the other, along the batch; in evaluation those of the first, which is the result.
    """

    def __init__(self, students: list[nn.Module]) -> None:
        super().__init__()
        self.students = nn.ModuleList(students)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (K N, T', V) and lengths (K N,) in training, (N, T', V) and (N,) otherwise."""
        if not self.training:
            logits, lengths = self.students[0](features, feature_lengths)
            return logits, lengths
        outputs = [student(features, feature_lengths) for student in self.students]
        return torch.cat([logits for logits, _ in outputs]), torch.cat([lengths for _, lengths in outputs])
