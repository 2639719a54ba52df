"""The streaming student: a unidirectional LSTM with an optional output delay."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class LSTMState(NamedTuple):
    """What a stream carries from chunk to chunk.

    Attributes:
        hidden, cell: (num_layers, N, hidden_dim).
        num_frames: frames read so far.
    """

    hidden: Tensor
    cell: Tensor
    num_frames: int


class LSTMStudent(nn.Module):
    """Unidirectional LSTM, (N, T, input_dim) -> (N, T, num_classes).

    With an output delay of d frames, the logits of frame t are computed after frame t + d has been read; behind the
    last frame the network reads d frames of zeros. The output has as many frames as the input.

    The default is the study's student: 5 x 768 (Parthasarathi & Ström 2019, section 4).
    """

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        hidden_dim: int = 768,
        num_layers: int = 5,
        output_delay: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.output_delay = output_delay
        self.lstm = nn.LSTM(
            input_dim, hidden_dim, num_layers, batch_first=True, dropout=dropout if num_layers > 1 else 0.0
        )
        self.output = nn.Linear(hidden_dim, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (N, T, V), (N,)."""
        # The zeros behind an utterance's own end are what `flush` feeds; padding may hold anything.
        mask = torch.arange(features.shape[1], device=features.device)[None] < feature_lengths[:, None]
        features = nn.functional.pad(features * mask[..., None], (0, 0, 0, self.output_delay))
        return self.output(self.lstm(features)[0][:, self.output_delay :]), feature_lengths

    def initial_state(self, batch_size: int = 1) -> LSTMState:
        """The state before the first chunk."""
        weight = self.output.weight
        zeros = weight.new_zeros(self.lstm.num_layers, batch_size, self.lstm.hidden_size)
        return LSTMState(zeros, zeros, 0)

    def stream(self, features: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Read a chunk (N, C, F) of any length; returns the logits that are ready (N, C', V) and the next state.

        C' is C, less the frames that the output delay still holds back at the start of the stream.
        """
        if features.shape[1] == 0:
            return features.new_zeros(len(features), 0, self.output.out_features), state
        outputs, (hidden, cell) = self.lstm(features, (state.hidden, state.cell))
        held_back = min(max(self.output_delay - state.num_frames, 0), features.shape[1])
        return self.output(outputs[:, held_back:]), LSTMState(hidden, cell, state.num_frames + features.shape[1])

    def flush(self, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """End the stream: the logits of the last `output_delay` frames."""
        shape = (state.hidden.shape[1], self.output_delay, self.lstm.input_size)
        return self.stream(state.hidden.new_zeros(shape), state)
