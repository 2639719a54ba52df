"""torchaudio's Emformer as a streaming student."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional


class EmformerState(NamedTuple):
    """What a stream carries: the layers' memories, and frames (N, B, F) that wait for their segment and right context."""

    layers: list[list[Tensor]] | None
    waiting: Tensor


class EmformerStudent(nn.Module):
    """Emformer (Shi et al. 2021), (N, T, input_dim) -> (N, T, num_classes).

    Reads segments of `segment_length` frames and looks `right_context_length` frames ahead. The end of an utterance is
    filled with zeros up to a whole segment and its right context, in training as in streaming.
    """

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        model_dim: int = 256,
        num_heads: int = 4,
        feedforward_dim: int = 1024,
        num_layers: int = 8,
        segment_length: int = 4,
        left_context_length: int = 30,
        right_context_length: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.segment, self.right = segment_length, right_context_length
        self.input = nn.Linear(input_dim, model_dim)
        self.emformer = torchaudio.models.Emformer(
            model_dim,
            num_heads,
            feedforward_dim,
            num_layers,
            segment_length,
            dropout=dropout,
            left_context_length=left_context_length,
            right_context_length=right_context_length,
        )
        self.output = nn.Linear(model_dim, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (N, T, V), (N,)."""
        num_frames = features.shape[1]
        padding = torch.arange(num_frames, device=features.device)[None] >= feature_lengths[:, None]
        whole = -(-num_frames // self.segment) * self.segment + self.right
        padded = functional.pad(features.masked_fill(padding[..., None], 0.0), (0, 0, 0, whole - num_frames))
        # Frames up to the end of an utterance's last segment are read, as in a stream.
        read = -(-feature_lengths // self.segment) * self.segment
        hidden, _ = self.emformer(self.input(padded), read)
        return self.output(hidden[:, :num_frames]), feature_lengths

    def initial_state(self, batch_size: int = 1) -> EmformerState:
        """The state before the first chunk."""
        return EmformerState(None, self.input.weight.new_zeros(batch_size, 0, self.input.in_features))

    def stream(self, features: Tensor, state: EmformerState) -> tuple[Tensor, EmformerState]:
        """Read a chunk (N, C, F) of any length; returns the logits (N, C', V) of the segments that are complete."""
        waiting = torch.cat([state.waiting, features], dim=1)
        # torchaudio writes the next state into the lists that it gets; the caller's state stays as it is.
        layers = None if state.layers is None else [list(layer) for layer in state.layers]
        outputs = []
        lengths = torch.full((len(features),), self.segment + self.right, device=features.device)
        while waiting.shape[1] >= self.segment + self.right:
            piece = self.input(waiting[:, : self.segment + self.right])
            hidden, _, layers = self.emformer.infer(piece, lengths, layers)
            outputs.append(self.output(hidden))
            waiting = waiting[:, self.segment :]
        empty = features.new_zeros(len(features), 0, self.output.out_features)
        return torch.cat([empty, *outputs], dim=1), EmformerState(layers, waiting)

    def flush(self, state: EmformerState) -> tuple[Tensor, EmformerState]:
        """End the stream: the logits of the frames that still wait."""
        left = state.waiting.shape[1]
        if not left:
            return self.stream(state.waiting, state)
        whole = -(-left // self.segment) * self.segment + self.right
        padding = state.waiting.new_zeros(len(state.waiting), whole - left, state.waiting.shape[2])
        logits, after = self.stream(padding, state)
        return logits[:, :left], after
