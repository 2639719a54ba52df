"""Any `nn.Module` by `package.module:factory`, and a check that it keeps the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from asrkd.callables import check_spec, find_callable
from asrkd.config import check, setting
from asrkd.corpus.waveform import AnyFrontEnd, Waveform
from asrkd.errors import ConfigError, MismatchError


@dataclass
class ModelConfig:
    """The `nn.Module` to train."""

    factory: str = setting("asrkd.models:LSTMStudent", form=check_spec)
    """`package.module:factory`, called with `input_dim`, `num_classes` and `args`."""
    args: dict[str, Any] = setting(dict)
    """Further arguments of the factory."""
    subsampling_factor: int = setting(1, at_least=1)
    """Input frames per output frame."""
    int8: bool = False
    """Train with the weights of LSTMs and linear layers rounded to 8 bits, for use as `int8:RUN` and in `asrkd export`."""

    def __post_init__(self) -> None:
        check(self, "model")


def build_model(factory: str, args: Mapping[str, Any], *, input_dim: int, num_classes: int) -> nn.Module:
    """Call `package.module:factory` with `input_dim`, `num_classes` and `args`.

    Raises:
        ConfigError: the spec cannot be imported, refuses the arguments, or does not return an `nn.Module`.
    """
    make = find_callable(factory, what="model factory")
    try:
        model = make(input_dim=input_dim, num_classes=num_classes, **args)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model factory {factory!r} refuses the arguments {dict(args)!r}: {error}") from None
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model factory {factory!r} returns a {type(model).__name__}, not an nn.Module")
    return model


@torch.no_grad()
def check_model(model: nn.Module, front_end: AnyFrontEnd, num_classes: int, subsampling_factor: int = 1) -> None:
    """Run a small batch and see that logits and lengths are what the protocol and the frame law say.

    A model with a method `check_front_end` is asked first whether it takes these features.

    Raises:
        MismatchError: not a pair of tensors, or another number of utterances, classes or frames.
    """
    if hasattr(model, "check_front_end"):
        cast(Any, model).check_front_end(front_end)
    lengths = torch.tensor([13, 8])
    expected = -(-lengths // subsampling_factor)
    if isinstance(front_end, Waveform):
        law = front_end.frame_law(subsampling_factor)
        lengths = torch.tensor([law.lengths_of(count)[0] for count in (13, 8)])
        expected = torch.tensor([13, 8])
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    # Each module's own mode: a factory may have frozen a part of the model.
    training = {module: module.training for module in model.modules()}
    model.eval()
    state = torch.random.get_rng_state()
    try:
        result = model(torch.randn(2, int(lengths[0]), front_end.feature_dim).to(device), lengths.to(device))
    finally:
        torch.random.set_rng_state(state)
        for module, mode in training.items():
            module.training = mode
    if not isinstance(result, tuple) or len(result) != 2 or not all(isinstance(part, torch.Tensor) for part in result):
        raise MismatchError(
            f"the model returns a {type(result).__name__}, but training and labeling need the pair of tensors "
            "(logits, logit_lengths); return both from forward"
        )
    logits, found = result
    if logits.dim() != 3 or logits.shape[0] != 2:
        raise MismatchError(
            f"the model gives logits of shape {tuple(logits.shape)} for a batch of 2 utterances, but they must "
            "be (utterances, frames, classes); the batch comes first"
        )
    if logits.shape[2] != num_classes:
        raise MismatchError(
            f"the model gives logits of shape {tuple(logits.shape)}, but the inventory has {num_classes} classes, so the "
            "last size must be that; check the model's num_classes"
        )
    if found.tolist() != expected.tolist() or logits.shape[1] != int(expected[0]):
        raise MismatchError(
            f"the model gives {found.tolist()} frames (logits: {logits.shape[1]}) for inputs of {lengths.tolist()}, where "
            f"a subsampling factor of {subsampling_factor} makes {expected.tolist()}; its frames would be shifted against "
            "the targets. Pad the model's input, or set model.subsampling_factor"
        )


def checkpoint_args(model: nn.Module, args: Mapping[str, Any]) -> dict[str, Any]:
    """What builds a model again without anything but its weights: `args`, unless it says so itself (an attribute `checkpoint_args`)."""
    return dict(getattr(model, "checkpoint_args", args))


def count_parameters(model: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in model.parameters())
