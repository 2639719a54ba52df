"""A streaming student without recurrence: a time-delay network of linear layers over spliced frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrkd.errors import ConfigError
from asrkd.models.streaming import StreamState


class TDNNStudent(nn.Module):
    """Time-delay network (Waibel et al. 1989; Peddinti, Povey & Khudanpur 2015), (N, T, input_dim) -> (N, T, num_classes).

    Each layer normalises its input, joins the frames t - 2d, t - d and t of its dilation d, and adds a linear layer's rectified output
    to what came in. All frames of a chunk are one matrix product, so on a CPU it is several times as fast as an LSTM of as many weights.

    With an output delay the logits of frame t are computed after frame t + delay has been read; after the last frame the network reads
    frames of zeros. The output has as many frames as the input.

    A stream's state: for each layer the frames that it looks back at, (N, 2 d, hidden_dim), and the position, (N,).

    Args:
        hidden_dim: width of the layers.
        dilations: one a layer; a frame is seen for twice their sum.
        output_delay: frames of lookahead.
        dropout: of each layer's output.

    Raises:
        ConfigError: no layer, a dilation below 1, or a negative output delay.
    """

    chunk_frames = 1
    left_padding = 0

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        hidden_dim: int = 256,
        dilations: Sequence[int] = (1, 1, 2, 3, 4, 5),
        output_delay: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if output_delay < 0:
            raise ConfigError(
                f"output_delay {output_delay} is negative, which would drop frames; give 0 or more frames"
            )
        if not dilations or min(dilations) < 1:
            raise ConfigError(
                f"dilations are {list(dilations)}, but must be one or more whole numbers of frames from 1"
            )
        self.output_delay = output_delay
        self.dilations = tuple(dilations)
        self.input = nn.Linear(input_dim, hidden_dim)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in dilations)
        self.layers = nn.ModuleList(nn.Linear(3 * hidden_dim, hidden_dim) for _ in dilations)
        self.dropout = nn.Dropout(dropout)
        self.output_norm = nn.LayerNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (N, T, V), (N,)."""
        # The zeros after an utterance's own end are what `flush` feeds; padding may hold anything, also NaN.
        padding = torch.arange(features.shape[1], device=features.device)[None] >= feature_lengths[:, None]
        features = features.masked_fill(padding[..., None], 0.0)
        features = functional.pad(features, (0, 0, 0, self.output_delay))
        hidden, _ = self._hidden(features, self.initial_state(features.shape[0])[:-1])
        return self._logits(hidden[:, self.output_delay :]), feature_lengths

    def initial_state(self, batch_size: int = 1) -> StreamState:
        """The state of streams that have read nothing."""
        # The norm's weights stay numbers in an int8 model.
        weight = self.output_norm.weight
        looked_back = [weight.new_zeros(batch_size, 2 * d, len(weight)) for d in self.dilations]
        return *looked_back, weight.new_zeros(batch_size, dtype=torch.int64)

    def stream(self, features: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Read a chunk (N, C, F) of any length; returns logits (N, C, V), late by the output delay, and the next state."""
        if features.shape[1] == 0:
            return features.new_zeros(features.shape[0], 0, self.output.out_features), state
        *looked_back, position = state
        hidden, looked_back = self._hidden(features, looked_back)
        return self._logits(hidden), (*looked_back, position + features.shape[1])

    def flush(self, state: StreamState) -> tuple[Tensor, StreamState]:
        """End the stream: the logits of the last `output_delay` frames."""
        looked_back = state[0]
        return self.stream(
            looked_back.new_zeros(looked_back.shape[0], self.output_delay, self.input.in_features), state
        )

    def _hidden(self, features: Tensor, looked_back: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """(N, C, F) -> (N, C, hidden_dim), and the frames that each layer looks back at from the next chunk."""
        hidden, kept = self.input(features), []
        for norm, layer, dilation, before in zip(self.norms, self.layers, self.dilations, looked_back, strict=True):
            frames = torch.cat([before, norm(hidden)], dim=1)
            spliced = [frames[:, : -2 * dilation], frames[:, dilation:-dilation], frames[:, 2 * dilation :]]
            hidden = hidden + self.dropout(functional.relu(layer(torch.cat(spliced, dim=2))))
            kept.append(frames[:, -2 * dilation :])
        return hidden, kept

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.output(self.output_norm(hidden))
