"""A streaming student without recurrence: a time-delay network of linear layers over spliced frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrkd.errors import ConfigError


class TDNNState(NamedTuple):
    """What a stream carries from chunk to chunk.

    Attributes:
        layers: for each layer, the frames that it still looks back at, (N, context, hidden_dim).
        num_frames: frames read so far.
    """

    layers: tuple[Tensor, ...]
    num_frames: int


class TDNNStudent(nn.Module):
    """Time-delay network (Waibel et al. 1989; Peddinti, Povey & Khudanpur 2015), (N, T, input_dim) -> (N, T, num_classes).

    Each layer normalises its input, joins the frames t - 2d, t - d and t of its dilation d, and adds a linear layer's rectified output
    to what came in. All frames of a chunk are one matrix product, so on a CPU it is several times as fast as an LSTM of as many weights.

    With an output delay the logits of frame t are computed after frame t + delay has been read; behind the last frame the network reads
    frames of zeros. The output has as many frames as the input.

    Args:
        hidden_dim: width of the layers.
        dilations: one a layer; a frame is seen for twice their sum.
        output_delay: frames of lookahead.
        dropout: of each layer's output.

    Raises:
        ConfigError: no layer, a dilation below 1, or a negative output delay.
    """

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
        # The zeros behind an utterance's own end are what `flush` feeds; padding may hold anything, also NaN.
        padding = torch.arange(features.shape[1], device=features.device)[None] >= feature_lengths[:, None]
        features = features.masked_fill(padding[..., None], 0.0)
        features = functional.pad(features, (0, 0, 0, self.output_delay))
        return self.stream(features, self.initial_state(len(features)))[0], feature_lengths

    def initial_state(self, batch_size: int = 1) -> TDNNState:
        """The state before the first chunk."""
        # The norm's weights stay numbers where those of linear layers are of eight bits.
        weight = self.output_norm.weight
        return TDNNState(tuple(weight.new_zeros(batch_size, 2 * d, len(weight)) for d in self.dilations), 0)

    def stream(self, features: Tensor, state: TDNNState) -> tuple[Tensor, TDNNState]:
        """Read a chunk (N, C, F) of any length; returns the logits that are ready (N, C', V) and the next state.

        C' is C, less the frames that the output delay still holds back at the start of the stream.
        """
        if features.shape[1] == 0:
            return features.new_zeros(len(features), 0, self.output.out_features), state
        hidden, kept = self.input(features), []
        for norm, layer, dilation, before in zip(self.norms, self.layers, self.dilations, state.layers, strict=True):
            frames = torch.cat([before, norm(hidden)], dim=1)
            spliced = [frames[:, : -2 * dilation], frames[:, dilation:-dilation], frames[:, 2 * dilation :]]
            hidden = hidden + self.dropout(functional.relu(layer(torch.cat(spliced, dim=2))))
            kept.append(frames[:, -2 * dilation :])
        held_back = min(max(self.output_delay - state.num_frames, 0), features.shape[1])
        logits = self.output(self.output_norm(hidden[:, held_back:]))
        return logits, TDNNState(tuple(kept), state.num_frames + features.shape[1])

    def flush(self, state: TDNNState) -> tuple[Tensor, TDNNState]:
        """End the stream: the logits of the last `output_delay` frames."""
        shape = (len(state.layers[0]), self.output_delay, self.input.in_features)
        return self.stream(state.layers[0].new_zeros(shape), state)
