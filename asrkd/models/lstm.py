"""The streaming student: a unidirectional LSTM with an optional output delay."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asrkd.errors import ConfigError
from asrkd.models.streaming import StreamState


class LSTMStudent(nn.Module):
    """Unidirectional LSTM, (N, T, input_dim) -> (N, T, num_classes).

    With an output delay of d frames, the logits of frame t are computed after frame t + d has been read; behind the
    last frame the network reads d frames of zeros. The output has as many frames as the input.

    A `projection_dim` above 0 puts a linear projection of that size after each layer (Sak et al. 2014, LSTMP).

    The default is the study's student: 5 x 768 (Parthasarathi & Ström 2019, section 4).

    A stream's state: hidden (N, num_layers, projection_dim or hidden_dim), cell (N, num_layers, hidden_dim), position (N,).

    Raises:
        ConfigError: a negative output delay, or a projection that is not smaller than the layer.
    """

    chunk_frames = 1
    left_padding = 0

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        hidden_dim: int = 768,
        num_layers: int = 5,
        output_delay: int = 0,
        dropout: float = 0.0,
        projection_dim: int = 0,
    ) -> None:
        super().__init__()
        if output_delay < 0:
            raise ConfigError(
                f"output_delay {output_delay} is negative, which would drop frames; give 0 or more frames"
            )
        if not 0 <= projection_dim < hidden_dim:
            raise ConfigError(
                f"projection_dim {projection_dim} is not below hidden_dim {hidden_dim}, so it would not make the layer "
                "smaller; give a smaller one, or 0 for no projection"
            )
        self.output_delay = output_delay
        self.projection_dim = projection_dim
        self.lstm = nn.LSTM(
            input_dim,
            hidden_dim,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
            proj_size=projection_dim,
        )
        self.output = nn.Linear(projection_dim or hidden_dim, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (N, T, V), (N,)."""
        # The zeros after an utterance's own end are what `flush` feeds; padding may hold anything, also NaN.
        padding = torch.arange(features.shape[1], device=features.device)[None] >= feature_lengths[:, None]
        features = features.masked_fill(padding[..., None], 0.0)
        features = nn.functional.pad(features, (0, 0, 0, self.output_delay))
        return self.output(self.lstm(features)[0][:, self.output_delay :]), feature_lengths

    def initial_state(self, batch_size: int = 1) -> StreamState:
        """The state of streams that have read nothing."""
        # An int8 model has no parameters, and runs on a CPU in float32.
        like = next(self.parameters(), torch.empty(0))
        layers, width = self.lstm.num_layers, self.lstm.hidden_size
        hidden = like.new_zeros(batch_size, layers, self.projection_dim or width)
        return hidden, like.new_zeros(batch_size, layers, width), like.new_zeros(batch_size, dtype=torch.int64)

    def stream(self, features: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Read a chunk (N, C, F) of any length; returns logits (N, C, V), late by the output delay, and the next state."""
        if features.shape[1] == 0:
            return features.new_zeros(features.shape[0], 0, self.output.out_features), state
        hidden, cell, position = state
        # torch's LSTM has the layers first.
        before = hidden.transpose(0, 1).contiguous(), cell.transpose(0, 1).contiguous()
        outputs, (hidden, cell) = self.lstm(features, before)
        after = hidden.transpose(0, 1), cell.transpose(0, 1), position + features.shape[1]
        return self.output(outputs), after

    def flush(self, state: StreamState) -> tuple[Tensor, StreamState]:
        """End the stream: the logits of the last `output_delay` frames."""
        hidden = state[0]
        return self.stream(hidden.new_zeros(hidden.shape[0], self.output_delay, self.lstm.input_size), state)
