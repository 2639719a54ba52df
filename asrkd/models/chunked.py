"""Truncated backpropagation through time: a streaming model trained chunk by chunk, with its state carried on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from asrkd.errors import ConfigError


class Chunked(nn.Module):
    """Runs a streaming model over chunks of the utterances while `chunk_frames` is above 0, in training.

    A chunk starts from the state that the one before it ended with, but no gradient flows back into that one (Williams & Peng 1990; the first
    sub-epochs of Parthasarathi & Ström 2019, section 3.2). The logits are those of the whole utterances, so the same losses apply.

    Attributes:
        model: with `initial_state(batch_size)`, `stream(features, state)` and `flush(state)`, as `asrkd.models.LSTMStudent`.
        chunk_frames: input frames of a chunk; 0 for whole utterances.
    """

    def __init__(self, model: nn.Module) -> None:
        """
        Raises:
            ConfigError: the model does not stream.
        """
        super().__init__()
        missing = [name for name in ("initial_state", "stream", "flush") if not callable(getattr(model, name, None))]
        if missing:
            raise ConfigError(
                f"{type(model).__name__} has no {missing[0]}, so it cannot be trained in chunks with its state carried on; leave "
                "chunk_frames out, or use a model that streams"
            )
        self.model: Any = model
        self.chunk_frames = 0

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (N, T', V), (N,)."""
        if not self.chunk_frames or not self.training:
            logits, lengths = self.model(features, feature_lengths)
            return logits, lengths
        # Behind an utterance's own end stand the zeros that `flush` feeds; padding may hold anything.
        padding = torch.arange(features.shape[1], device=features.device)[None] >= feature_lengths[:, None]
        features = features.masked_fill(padding[..., None], 0.0)
        state, parts = self.model.initial_state(len(features)), []
        for chunk in features.split(self.chunk_frames, dim=1):
            logits, state = self.model.stream(chunk, _detached(state))
            parts.append(logits)
        parts.append(self.model.flush(_detached(state))[0])
        return torch.cat(parts, dim=1), feature_lengths


def _detached(state: Any) -> Any:
    """The same state without the graph behind its tensors."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, tuple):
        parts = [_detached(part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    if isinstance(state, list):
        return [_detached(part) for part in state]
    return state
