"""The streaming student: a unidirectional LSTM with an optional output delay."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from asrkd.errors import ConfigError


class LSTMState(NamedTuple):
    """What a stream carries from chunk to chunk.

    Attributes:
        hidden: (num_layers, N, projection_dim), or hidden_dim without a projection.
        cell: (num_layers, N, hidden_dim).
        num_frames: frames read so far.
    """

    hidden: Tensor
    cell: Tensor
    num_frames: int


class LSTMStudent(nn.Module):
    """Unidirectional LSTM, (N, T, input_dim) -> (N, T, num_classes).

    With an output delay of d frames, the logits of frame t are computed after frame t + d has been read; behind the
    last frame the network reads d frames of zeros. The output has as many frames as the input.

    A `projection_dim` above 0 puts a linear projection of that size behind each layer (Sak et al. 2014, LSTMP).

    The default is the study's student: 5 x 768 (Parthasarathi & Ström 2019, section 4).

    Raises:
        ConfigError: a negative output delay, or a projection that is not smaller than the layer.
    """

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
        # The zeros behind an utterance's own end are what `flush` feeds; padding may hold anything, also NaN.
        padding = torch.arange(features.shape[1], device=features.device)[None] >= feature_lengths[:, None]
        features = features.masked_fill(padding[..., None], 0.0)
        features = nn.functional.pad(features, (0, 0, 0, self.output_delay))
        return self.output(self.lstm(features)[0][:, self.output_delay :]), feature_lengths

    def initial_state(self, batch_size: int = 1) -> LSTMState:
        """The state before the first chunk."""
        # A layer of eight bits, which runs on a CPU, has a method in its place.
        weight = self.output.weight if isinstance(self.output.weight, Tensor) else torch.empty(0)
        layers, width = self.lstm.num_layers, self.lstm.hidden_size
        hidden = weight.new_zeros(layers, batch_size, self.projection_dim or width)
        return LSTMState(hidden, weight.new_zeros(layers, batch_size, width), 0)

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
