"""torchaudio's Conformer as an acoustic model: whole utterances, for teachers."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn


class ConformerTeacher(nn.Module):
    """Conformer (Gulati et al. 2020), (N, T, input_dim) -> (N, T, num_classes); it attends to the whole utterance."""

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        model_dim: int = 256,
        num_heads: int = 4,
        feedforward_dim: int = 1024,
        num_layers: int = 12,
        kernel_size: int = 31,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.input = nn.Linear(input_dim, model_dim)
        self.conformer = torchaudio.models.Conformer(
            model_dim, num_heads, feedforward_dim, num_layers, kernel_size, dropout
        )
        # torchaudio masks padding in its attention but not in its convolutions, where it would reach the last frames.
        self._inside: Tensor | None = None
        for layer in self.conformer.conformer_layers:
            layer.conv_module.sequential[2].register_forward_pre_hook(self._clear_padding)
        self.output = nn.Linear(model_dim, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (N, T, V), (N,)."""
        steps = torch.arange(features.shape[1], device=features.device)
        self._inside = steps[None] < feature_lengths[:, None]
        try:
            hidden, lengths = self.conformer(self.input(features), feature_lengths)
        finally:
            self._inside = None
        return self.output(hidden), lengths

    def _clear_padding(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """Zero the padding of a convolution's input (N, C, T)."""
        return (inputs[0] * self._inside[:, None],) if self._inside is not None else inputs
