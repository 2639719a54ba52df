"""8-bit weights: training with them (quantization-aware), and a model that computes with them.

The matrices of LSTMs and linear layers lie on a grid of 256 values about 0, one step for each matrix (Jacob et al. 2018, "Quantization
and training of neural networks for efficient integer-arithmetic-only inference", section 3, with zero point 0). In training the float weights stay:
forward and backward pass see the rounded ones, and the gradient goes to the float ones (straight through). The finished model computes with
torch's dynamic quantization, which rounds activations batch by batch.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from asrkd.errors import ConfigError

QUANTIZED = (nn.LSTM, nn.Linear)


def quantized_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The matrices that eight bits hold; biases and other layers stay as they are.

    Raises:
        ConfigError: the model has none.
    """
    found = [
        parameter
        for module in model.modules()
        if isinstance(module, QUANTIZED)
        for parameter in module.parameters(recurse=False)
        if parameter.dim() == 2
    ]
    if not found:
        raise ConfigError(
            f"{type(model).__name__} has no LSTM or linear layer, whose weights alone are kept in eight bits; leave out int8"
        )
    return found


def scale_of(weight: Tensor) -> float:
    """The step of the grid that dynamic quantization gives a matrix."""
    # As torch's MinMaxObserver finds it for symmetric qint8.
    return float(weight.detach().abs().max().clamp_min(torch.finfo(torch.float32).eps * 127.5) / 127.5)


def rounded(weight: Tensor) -> Tensor:
    """A matrix on its grid."""
    return torch.fake_quantize_per_tensor_affine(weight.detach(), scale_of(weight), 0, -128, 127)


@contextmanager
def rounded_weights(model: nn.Module) -> Iterator[None]:
    """Inside, the model has rounded weights; gradients that it gets there are those of its float ones.

    Raises:
        ConfigError: the model has no weights to round.
    """
    parameters = quantized_parameters(model)
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(rounded(parameter))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, weight in zip(parameters, kept, strict=True):
                parameter.copy_(weight)


def to_int8(model: nn.Module) -> nn.Module:
    """A copy that computes with 8-bit weights, on a CPU.

    Raises:
        ConfigError: the model has no weights to round, or an LSTM with projections, which torch cannot quantize.
    """
    quantized_parameters(model)
    if any(isinstance(module, nn.LSTM) and module.proj_size for module in model.modules()):
        raise ConfigError(
            f"{type(model).__name__} has an LSTM with a projection, which torch cannot run in eight bits; leave out projection_dim"
        )
    with warnings.catch_warnings():
        # torch.ao's dynamic quantization is to move to torchao; the torch that asrkd requires has it.
        warnings.simplefilter("ignore")
        found: nn.Module = torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(model).cpu().eval(), set(QUANTIZED), dtype=torch.qint8
        )
    return found


def int8_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights as a file, of which the matrices have eight bits each."""
    sink = io.BytesIO()
    torch.save(to_int8(model).state_dict(), sink)
    return sink.tell()
