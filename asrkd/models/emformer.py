"""torchaudio's Emformer as a streaming student."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from asrkd.models.streaming import StreamState, check_whole_chunks


class EmformerStudent(nn.Module):
    """Emformer (Shi et al. 2021), (N, T, input_dim) -> (N, T, num_classes).

    Reads segments of `segment_length` frames and looks `right_context_length` frames ahead. The end of an utterance is
    filled with zeros up to a whole segment and its right context, in training as in streaming.

    A stream reads whole segments. Frames of zeros before its start (`left_padding`) put their ends where the right context of a segment
    ends, so that its logits come as early as they can. Its state: the last `right_context_length` input frames (N, R, F), for each layer
    the keys and the values of the left context, (N, left_context_length, model_dim) both, and the position, (N,).
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
        self.segment, self.right, self.left = segment_length, right_context_length, left_context_length
        self.chunk_frames = segment_length
        self.left_padding = -right_context_length % segment_length
        self.output_delay = right_context_length + self.left_padding
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

    def initial_state(self, batch_size: int = 1) -> StreamState:
        """The state of streams that have read nothing."""
        layers = self.emformer.emformer_layers
        # A norm's weights stay numbers in an int8 model.
        weight = layers[0].layer_norm_input.weight
        contexts = [weight.new_zeros(batch_size, self.left, len(weight)) for _ in layers for _ in ("key", "value")]
        waiting = weight.new_zeros(batch_size, self.right, self.input.in_features)
        return waiting, *contexts, weight.new_zeros(batch_size, dtype=torch.int64)

    def stream(self, features: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Read whole segments (N, C, F); returns logits (N, C, V), late by the output delay, and the next state.

        Raises:
            MismatchError: C is not a multiple of the segment.
        """
        check_whole_chunks(self, features)
        waiting, *contexts, position = state
        frames = torch.cat([waiting, features], dim=1)
        outputs = []
        for start in range(0, features.shape[1], self.segment):
            logits, contexts = self._segment(frames[:, start : start + self.segment + self.right], contexts, position)
            outputs.append(logits)
            position = position + self.segment
        if not outputs:
            return features.new_zeros(features.shape[0], 0, self.output.out_features), state
        return torch.cat(outputs, dim=1), (frames[:, features.shape[1] :], *contexts, position)

    def flush(self, state: StreamState) -> tuple[Tensor, StreamState]:
        """End the stream: the logits of the last `output_delay` frames."""
        waiting = state[0]
        return self.stream(waiting.new_zeros(waiting.shape[0], self.output_delay, self.input.in_features), state)

    def _segment(self, frames: Tensor, contexts: list[Tensor], position: Tensor) -> tuple[Tensor, list[Tensor]]:
        """A segment with its right context (N, segment + R, F) -> logits (N, segment, V), and each layer's next keys and values.

        torchaudio's own `infer` slices the left context by a count that it reads off a tensor, one count for all streams of a batch.
        Here each stream masks what it has not got.
        """
        hidden, kept = self.input(frames), []
        # Left context of the utterance itself; frames before its start are none.
        past = (position - self.output_delay).clamp(0, self.left)
        slots = torch.arange(-self.left, frames.shape[1], device=position.device)
        attended = (slots >= -past[:, None])[:, None, None]
        for layer, key, value in zip(self.emformer.emformer_layers, contexts[::2], contexts[1::2], strict=True):
            attention = layer.attention
            normed = layer.layer_norm_input(hidden)
            new_key, new_value = attention.emb_to_key_value(normed).chunk(2, dim=2)
            keys, values = torch.cat([key, new_key], dim=1), torch.cat([value, new_value], dim=1)
            query, by_head, values_by_head = (
                part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
                for part in (attention.emb_to_query(normed), keys, values)
            )
            dropout = attention.dropout if self.training else 0.0
            mixed = functional.scaled_dot_product_attention(query, by_head, values_by_head, attended, dropout)
            mixed = layer.dropout(attention.out_proj(mixed.transpose(1, 2).flatten(2))) + hidden
            hidden = layer.layer_norm_output(layer.pos_ff(mixed) + mixed)
            # The right context is read again, as a part of the next segment.
            kept += [part[:, self.segment : self.segment + self.left] for part in (keys, values)]
        return self.output(hidden[:, : self.segment]), kept
