"""Truncated backpropagation through time: a streaming model trained chunk by chunk, with its state carried on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from asrkd.models.streaming import FeatureStream, stream_layout


class Chunked(nn.Module):
    """Runs a streaming model over chunks of the utterances while `chunk_frames` is above 0, in training.

    A chunk starts from the state that the one before it ended with, but no gradient flows back into that one (Williams & Peng 1990; the first
    sub-epochs of Parthasarathi & Ström 2019, section 3.2). The logits are those of the whole utterances, so the same losses apply.

    Attributes:
        model: a `StreamingModel`.
        chunk_frames: input frames of a chunk, of which the model reads the whole ones of its own `chunk_frames`; 0 for whole utterances.
    """

    def __init__(self, model: nn.Module) -> None:
        """
        Raises:
            ConfigError: the model does not stream.
        """
        super().__init__()
        stream_layout(model, "be trained in chunks with its state carried on (chunk_frames)")
        self.model: Any = model
        self.chunk_frames = 0

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> logits (N, T', V), (N,)."""
        if not self.chunk_frames or not self.training:
            logits, lengths = self.model(features, feature_lengths)
            return logits, lengths
        # Behind an utterance's own end are the zeros that `flush` feeds; padding may hold anything.
        padding = torch.arange(features.shape[1], device=features.device)[None] >= feature_lengths[:, None]
        features = features.masked_fill(padding[..., None], 0.0)
        stream, parts = FeatureStream(self.model, len(features)), []
        for chunk in features.split(self.chunk_frames, dim=1):
            stream.state = tuple(part.detach() for part in stream.state)
            parts.append(stream.accept(chunk))
        stream.state = tuple(part.detach() for part in stream.state)
        parts.append(stream.finish())
        return torch.cat(parts, dim=1), -(-feature_lengths // stream.subsampling_factor)
