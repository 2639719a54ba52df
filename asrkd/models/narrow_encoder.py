"""A Whisper encoder with narrower feed-forward networks, so that a student of a given size can begin with more of its layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from asrkd.errors import ConfigError
from asrkd.models.pretrained_encoder import LoadedEncoder, built_encoder

# Points at which a normal value is looked at, and how many standard deviations to each side.
_POINTS, _REACH = 1001, 8.0


@torch.no_grad()
def narrowed(loaded: LoadedEncoder, feedforward_dim: int, name: str) -> LoadedEncoder:
    """The encoder with `feedforward_dim` units in the feed-forward network of each layer: those whose outputs vary most in what the layer adds.

    That is not measured on speech but computed from the weights, with the layer norm before the units taken to give independent values, normal, with its own
    means and scales. A unit counts by the standard deviation of its GELU times the norm of its output weights, and the mean of what is left out goes into the bias.

    Args:
        name: what errors call it.

    Raises:
        ConfigError: it has fewer units.
    """
    width = loaded.module.layers[0].fc1.out_features
    if isinstance(feedforward_dim, bool) or not isinstance(feedforward_dim, int) or not 1 <= feedforward_dim <= width:
        raise ConfigError(
            f"model.args.feedforward_dim: is {feedforward_dim!r}, but the feed-forward networks of {name!r} have {width} units; give 1 to {width}, or leave it out for all"
        )
    narrow = built_encoder({**loaded.config, "encoder_ffn_dim": feedforward_dim}, {})
    weights = loaded.module.state_dict()
    for number, layer in enumerate(loaded.module.layers):
        mean, deviation = gelu_moments(*_unit_inputs(layer))
        kept = (deviation * layer.fc2.weight.norm(dim=0)).topk(feedforward_dim).indices.sort().values
        weights |= {
            f"layers.{number}.fc1.weight": layer.fc1.weight[kept],
            f"layers.{number}.fc1.bias": layer.fc1.bias[kept],
            f"layers.{number}.fc2.weight": layer.fc2.weight[:, kept],
            f"layers.{number}.fc2.bias": layer.fc2.bias + layer.fc2.weight @ mean.index_fill(0, kept, 0.0),
        }
    narrow.module.load_state_dict(weights)
    return narrow


def gelu_moments(mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the GELU of normal values of these, summed over a grid; all of one shape."""
    points = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)
    shares = (-points.square() / 2).softmax(dim=0)
    values = functional.gelu(mean.double()[..., None] + deviation.double()[..., None] * points)
    first = values @ shares
    second = (values - first[..., None]).square() @ shares
    return first.to(mean.dtype), second.sqrt().to(mean.dtype)


def _unit_inputs(layer: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the inputs of a layer's feed-forward units, (units,) each."""
    norm = layer.final_layer_norm
    return layer.fc1.weight @ norm.bias + layer.fc1.bias, (layer.fc1.weight * norm.weight).norm(dim=1)
