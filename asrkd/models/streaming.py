"""Streaming models: one protocol, whose state is tensors alone, and a stream of features of any length through it.

Live decoding, training in chunks and export run the same `stream`. Streams share a batch wherever each of them is: a row of the state's
tensors is one stream, so streams are joined by `tuple(map(torch.cat, zip(first, second)))` and picked by `tuple(part[rows] for part in state)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from asrkd.errors import ConfigError, MismatchError

StreamState: TypeAlias = tuple[Tensor, ...]


@runtime_checkable
class StreamingModel(Protocol):
    """An acoustic model that also reads utterances chunk by chunk.

    The state is a tuple of tensors with the batch on their first axis, of shapes and types that do not change. The last one is the position,
    (N,) int64: output frames so far. `stream` makes no Python decision by the values of tensors, nor by the size of the batch (which `len`
    would fix), so that it can be exported.

    Logits come late by `output_delay` output frames: row r of all that `stream` and `flush` return is output frame r - output_delay of the
    utterance. The rows before the first one are finite and mean nothing (`valid_rows`). The rest, up to the utterance's length, is what
    `forward` returns for the whole utterance.

    Attributes:
        chunk_frames: `stream` reads a multiple of this many input frames, also none.
        left_padding: input frames of zeros that a stream begins with, so that a model with lookahead ends its chunks where a result is due.
        output_delay: output frames before that of the first input frame; those for `left_padding` are among them.
    """

    chunk_frames: int
    left_padding: int
    output_delay: int

    def initial_state(self, batch_size: int = 1) -> StreamState:
        """The state of `batch_size` streams that have read nothing."""

    def stream(self, features: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """(N, C, F) -> logits (N, C', V), C' = C over the subsampling factor, and the next state. The state given stays as it is."""

    def flush(self, state: StreamState) -> tuple[Tensor, StreamState]:
        """The logits (N, output_delay, V) of the last frames, behind which the model reads zeros, and the state behind them.

        An utterance that ends within a chunk is first filled up with zeros; rows beyond its length mean nothing.
        """


@dataclass(frozen=True)
class StreamLayout:
    """What a streaming model reads and carries on.

    Attributes:
        chunk_frames, left_padding, output_delay: as in `StreamingModel`.
        state: shape without the batch axis, and type, of each tensor of the state.
    """

    chunk_frames: int
    left_padding: int
    output_delay: int
    state: tuple[tuple[tuple[int, ...], torch.dtype], ...]


def stream_layout(model: object, purpose: str) -> StreamLayout:
    """The layout of a model that streams.

    Args:
        purpose: what it is to do, for the error: "run on live audio".

    Raises:
        ConfigError: the model does not stream, or its state is not what `StreamingModel` says.
    """
    name, sizes = type(model).__name__, ("chunk_frames", "left_padding", "output_delay")
    missing = [part for part in ("initial_state", "stream", "flush", *sizes) if not hasattr(model, part)]
    if missing or not isinstance(model, StreamingModel):
        raise ConfigError(
            f"{name} has no {missing[0]}, so it cannot {purpose}; use a model that streams (asrkd.models.StreamingModel), such as "
            "LSTMStudent, TDNNStudent or EmformerStudent"
        )
    for size, least in zip(sizes, (1, 0, 0), strict=True):
        value = getattr(model, size)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{name}.{size} is {value!r}, but must be a whole number of at least {least} frames")
    state = model.initial_state(2)
    if not isinstance(state, tuple) or not state or not all(isinstance(part, Tensor) for part in state):
        raise ConfigError(
            f"{name}.initial_state returns {_form(state)}, but the state must be a tuple of tensors alone, so that it can be batched and "
            "exported; keep counters as int64 tensors"
        )
    if any(part.dim() == 0 or len(part) != 2 for part in state):
        raise ConfigError(
            f"{name}.initial_state(2) returns tensors of the shapes {[tuple(part.shape) for part in state]}, but the first axis must be the "
            "batch, of 2 here; transpose them"
        )
    if state[-1].dtype != torch.int64 or state[-1].dim() != 1:
        raise ConfigError(
            f"the last tensor of {name}'s state is {_form(state[-1])}, but must be the output frames so far, (N,) of int64"
        )
    layout = tuple((tuple(part.shape[1:]), part.dtype) for part in state)
    return StreamLayout(model.chunk_frames, model.left_padding, model.output_delay, layout)


def _form(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {', '.join(sorted({type(part).__name__ for part in value})) or 'nothing'}"
    return f"a {type(value).__name__}"


def check_whole_chunks(model: StreamingModel, features: Tensor) -> None:
    """Raise `MismatchError` for features (N, C, F) of which C is not a multiple of the model's chunk."""
    if features.shape[1] % model.chunk_frames:
        raise MismatchError(
            f"a chunk of {features.shape[1]} frames is not a multiple of the {model.chunk_frames} frames that {type(model).__name__} reads at once; give whole "
            "chunks, or let asrkd.models.FeatureStream collect them"
        )


def valid_rows(state: StreamState, num_rows: int, output_delay: int) -> Tensor:
    """(N, num_rows) bool: which of the next rows of logits are frames of their stream; False for those before its start.

    Args:
        state: before these rows were computed.
    """
    position = state[-1]
    return position[:, None] + torch.arange(num_rows, device=position.device) >= output_delay


class FeatureStream:
    """Streams that begin together: features come in chunks of any length, logits as soon as the model can give them.

    All that `accept` and `finish` return, joined along the frames, is the model's forward pass over the whole.

    Attributes:
        state: of the model; it may be replaced between two calls, by a detached one for example.
        subsampling_factor: input frames for one output frame, as seen in what the model returned.
    """

    def __init__(self, model: StreamingModel, batch_size: int = 1) -> None:
        self._model = model
        self.state = model.initial_state(batch_size)
        self._waiting: Tensor | None = None
        self._before_start = model.output_delay
        self._num_features = self._num_logits = 0
        self.subsampling_factor = 1

    def accept(self, features: Tensor) -> Tensor:
        """(N, C, F) further features, also none -> (N, C', V) logits that are ready."""
        if self._waiting is None:
            self._waiting = features.new_zeros(len(features), self._model.left_padding, features.shape[2])
        self._num_features += features.shape[1]
        # A model of single frames has none waiting, and a copy of each chunk less.
        waiting = torch.cat([self._waiting, features], dim=1) if self._waiting.shape[1] else features
        ready = waiting.shape[1] - waiting.shape[1] % self._model.chunk_frames
        self._waiting = waiting[:, ready:]
        return self._read(waiting[:, :ready])

    def finish(self) -> Tensor:
        """The logits (N, C', V) of the frames that are left. The streams have ended."""
        parts = []
        if self._waiting is not None and self._waiting.shape[1] and self._num_features:
            missing = -self._waiting.shape[1] % self._model.chunk_frames
            parts.append(self._read(functional.pad(self._waiting, (0, 0, 0, missing))))
        logits, self.state = self._model.flush(self.state)
        parts.append(self._of_the_stream(logits))
        total = -(-self._num_features // self.subsampling_factor)
        logits = torch.cat(parts, dim=1)
        return logits[:, : logits.shape[1] - max(self._num_logits - total, 0)]

    def _read(self, features: Tensor) -> Tensor:
        logits, self.state = self._model.stream(features, self.state)
        if logits.shape[1]:
            self.subsampling_factor = features.shape[1] // logits.shape[1]
        return self._of_the_stream(logits)

    def _of_the_stream(self, logits: Tensor) -> Tensor:
        before = min(self._before_start, logits.shape[1])
        self._before_start -= before
        self._num_logits += logits.shape[1] - before
        return logits[:, before:] if before else logits
