"""torchaudio's Conformer as an acoustic model: whole utterances, for teachers."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional


class ConformerTeacher(nn.Module):
    """Conformer (Gulati et al. 2020), (N, T, input_dim) -> (N, T, num_classes); it attends to the whole utterance.

    In evaluation an utterance does not depend on its batch. In training it does: the batch normalization of the
    convolutions takes its statistics over the batch, padding included.
    """

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
        self.inside: Tensor | None = None  # (N, T) bool, while a batch is read
        for layer in self.conformer.conformer_layers:
            layer.conv_module.sequential[2].register_forward_pre_hook(self._clear_padding)
        self.output = nn.Linear(model_dim, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (N, T, V), (N,)."""
        # torchaudio wants the longest utterance to fill the batch; frames behind it get logits of zero.
        num_frames, longest = features.shape[1], int(feature_lengths.max())
        self.inside = torch.arange(longest, device=features.device)[None] < feature_lengths[:, None]
        features = features[:, :longest].masked_fill(~self.inside[..., None], 0.0)
        try:
            hidden, lengths = self.conformer(self.input(features), feature_lengths)
        finally:
            self.inside = None
        return functional.pad(self.output(hidden), (0, 0, 0, num_frames - longest)), lengths

    def _clear_padding(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """Zero the padding of a convolution's input (N, C, T)."""
        return (inputs[0] * self.inside[:, None],) if self.inside is not None else inputs
