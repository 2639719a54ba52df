"""Whisper's encoder on utterances of any length: transformers' own takes windows of 30 s alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Of its second convolution.
SUBSAMPLING = 2


def whisper_hidden(encoder: Any, features: Tensor, lengths: Tensor) -> Tensor:
    """(N, T, mels), (N,) -> (N, T', D), T' = T over 2, rounded up; padding does not reach the output.

    Positions are the first of the encoder's: an utterance is read as the beginning of a window, without the silence that would fill it.

    Raises:
        ValueError: more frames than the encoder has positions.
    """
    num_frames, positions = -(-features.shape[1] // SUBSAMPLING), encoder.embed_positions.weight
    if num_frames > len(positions):
        raise ValueError(f"an utterance has {num_frames} frames, but the encoder has positions for {len(positions)}")
    steps = torch.arange(features.shape[1], device=features.device)
    hidden = features.masked_fill((steps >= lengths[:, None])[..., None], 0.0).transpose(1, 2)
    hidden = functional.gelu(encoder.conv1(hidden))
    # The second convolution sees zeros after the end, as after that of an utterance by itself.
    hidden = functional.gelu(encoder.conv2(hidden.masked_fill((steps >= lengths[:, None])[:, None], 0.0)))
    hidden = functional.dropout(
        hidden.transpose(1, 2) + positions[:num_frames], encoder.dropout, training=encoder.training
    )
    padded = torch.arange(num_frames, device=features.device) >= -(-lengths // SUBSAMPLING)[:, None]
    mask = torch.zeros(padded.shape, dtype=hidden.dtype, device=hidden.device)
    mask = mask.masked_fill(padded, torch.finfo(hidden.dtype).min)[:, None, None].expand(-1, 1, num_frames, -1)
    for layer in encoder.layers:
        hidden = layer(hidden, mask)
    return encoder.layer_norm(hidden)  # type: ignore[no-any-return]
