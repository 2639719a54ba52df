"""What a layer inside a model gives, without changing the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from asrkd.errors import ConfigError, MismatchError


@contextmanager
def tapped(model: nn.Module, name: str) -> Iterator[list[Tensor]]:
    """Inside, the outputs of the submodule `name` are added to the list, one for each forward pass; of a tuple its first tensor.

    Raises:
        ConfigError: the model has no such submodule.
    """
    try:
        module = model.get_submodule(name)
    except AttributeError:
        known = [one for one, _ in model.named_modules() if one]
        raise ConfigError(
            f"layer {name!r} is not in {type(model).__name__}; its layers are {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}"
        ) from None
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _given: Any, output: Any) -> None:
        while isinstance(output, (tuple, list)):
            output = output[0]
        outputs.append(output)

    handle = module.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


def layer_frames(output: Tensor, num_utterances: int, num_frames: int, *, name: str) -> Tensor:
    """(N, T', D) a layer's output at the frames of the logits.

    A layer may have more frames than the logits: the last ones count, which are those that a model with an output delay makes its logits from.

    Args:
        output: (N, T, D) with T of at least T'.

    Raises:
        MismatchError: the output has another form, or fewer frames.
    """
    if output.dim() != 3 or output.shape[0] != num_utterances or output.shape[1] < num_frames:
        raise MismatchError(
            f"layer {name!r} gives {tuple(output.shape)} where ({num_utterances} utterances, at least {num_frames} frames, dimensions) belong; "
            "choose a layer that has a vector for every output frame, utterances first"
        )
    return output[:, output.shape[1] - num_frames :]
