"""Whole utterances through models of attention without Python's loops and numbers, which an exporter would freeze."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrkd.models import ConformerTeacher, EmformerStudent


class EmformerUtterances(nn.Module):
    """`EmformerStudent.forward` with all segments at a time: (N, T, F), (N,) -> logits (N, T, V), (N,).

    Each segment has its right context, computed again in the next one, and the keys and values of the frames left of it.
    """

    model: Any

    def __init__(self, model: EmformerStudent) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        model, num_frames = self.model, features.shape[1]
        padding = torch.arange(num_frames)[None] >= feature_lengths[:, None]
        # One segment more than there may be, so that no length is a special case.
        features = functional.pad(features.masked_fill(padding[..., None], 0.0), (0, 0, 0, model.segment + model.right))
        begins = torch.arange(0, num_frames, model.segment)[:, None]
        hidden = model.input(features)[:, begins + torch.arange(model.segment + model.right)]
        # Left of the first frame there is nothing.
        slots = torch.arange(-model.left, model.segment + model.right)
        attended = (slots >= 0) | (begins + slots >= 0)
        context = begins + torch.arange(model.left)
        for layer in model.emformer.emformer_layers:
            attention = layer.attention
            normed = layer.layer_norm_input(hidden)
            key, value = attention.emb_to_key_value(normed).chunk(2, dim=3)
            query, keys, values = (
                part.unflatten(3, (attention.num_heads, -1)).transpose(2, 3)
                for part in (
                    attention.emb_to_query(normed),
                    self._with_left(key, context),
                    self._with_left(value, context),
                )
            )
            mixed = functional.scaled_dot_product_attention(query, keys, values, attended[:, None, None])
            mixed = attention.out_proj(mixed.transpose(2, 3).flatten(3)) + hidden
            hidden = layer.layer_norm_output(layer.pos_ff(mixed) + mixed)
        logits = model.output(hidden[:, :, : model.segment]).flatten(1, 2)
        return logits[:, :num_frames], feature_lengths

    def _with_left(self, part: Tensor, context: Tensor) -> Tensor:
        """(N, S, segment + R, D) -> (N, S, left + segment + R, D)."""
        whole = functional.pad(part[:, :, : self.model.segment].flatten(1, 2), (0, 0, self.model.left, 0))
        return torch.cat([whole[:, context], part], dim=2)


class ConformerUtterances(nn.Module):
    """`ConformerTeacher.forward`; frames after the longest utterance may hold anything."""

    model: Any

    def __init__(self, model: ConformerTeacher) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        padding = torch.arange(features.shape[1])[None] >= feature_lengths[:, None]
        hidden = self.model.input(features.masked_fill(padding[..., None], 0.0))
        self.model.inside = ~padding
        try:
            for layer in self.model.conformer.conformer_layers:
                hidden = self._layer(layer, hidden, ~padding[:, None, None])
        finally:
            self.model.inside = None
        return self.model.output(hidden), feature_lengths

    @staticmethod
    def _layer(layer: Any, hidden: Tensor, attended: Tensor) -> Tensor:
        """torchaudio's layer, whose attention would freeze the batch size in a graph: (N, T, D) -> (N, T, D)."""
        hidden = 0.5 * layer.ffn1(hidden) + hidden
        if layer.convolution_first:
            hidden = layer.conv_module(hidden) + hidden
        attention = layer.self_attn
        projected = functional.linear(
            layer.self_attn_layer_norm(hidden), attention.in_proj_weight, attention.in_proj_bias
        )
        query, key, value = (
            part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in projected.chunk(3, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attended)
        hidden = attention.out_proj(mixed.transpose(1, 2).flatten(2)) + hidden
        if not layer.convolution_first:
            hidden = layer.conv_module(hidden) + hidden
        return layer.final_layer_norm(0.5 * layer.ffn2(hidden) + hidden)


def whole_utterances(model: nn.Module) -> nn.Module:
    """The module whose forward pass over whole utterances is exported for a model."""
    if isinstance(model, EmformerStudent):
        return EmformerUtterances(model)
    return ConformerUtterances(model) if isinstance(model, ConformerTeacher) else model
