"""8-bit weights: training sees the grid that the finished model computes with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from asrkd.errors import ConfigError
from asrkd.models import BLSTMTeacher, EmformerStudent, FeatureStream, LSTMStudent, TDNNStudent, count_parameters
from asrkd.models.int8 import int8_bytes, quantized_parameters, rounded, rounded_weights, to_int8

SIZES = {"input_dim": 20, "num_classes": 5, "hidden_dim": 24, "num_layers": 2}


def grids(model: nn.Module) -> list[Tensor]:
    """The matrices of a dynamically quantized model, as numbers."""
    found = []
    for module in model.modules():
        if "quantized.dynamic" in type(module).__module__ and hasattr(module, "get_weight"):
            found += [weight.dequantize() for weight in module.get_weight().values()]
        elif "quantized.dynamic" in type(module).__module__ and "Linear" in type(module).__name__:
            found.append(module.weight().dequantize())
    return found


def test_rounded_weights_are_those_of_the_int8_model() -> None:
    torch.manual_seed(0)
    model = LSTMStudent(**SIZES, output_delay=2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    expected = grids(to_int8(model))
    assert len(expected) == len(quantized_parameters(model)) == 5
    features, lengths = torch.randn(2, 30, 20), torch.tensor([30, 17])
    with rounded_weights(model), torch.no_grad():
        for parameter, grid in zip(quantized_parameters(model), expected, strict=True):
            torch.testing.assert_close(parameter.data, grid, rtol=0, atol=1e-6)
            assert len(parameter.unique()) <= 256
        # What is left between the two is the rounding of activations.
        logits, used = model(features, lengths)[0], to_int8(model)(features, lengths)[0]
        assert (logits - used).abs().max() < 0.05 * logits.std()
    for parameter, weight in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, weight)


@pytest.mark.parametrize(
    "model",
    [
        LSTMStudent(**SIZES, output_delay=2),
        TDNNStudent(20, 5, 24, dilations=(1, 2), output_delay=2),
        EmformerStudent(20, 5, 24, 2, 32, 2, segment_length=3, left_context_length=6, right_context_length=2),
    ],
)
@torch.no_grad()
def test_a_model_of_eight_bits_streams(model: nn.Module) -> None:
    used, features = to_int8(model), torch.randn(1, 30, 20)
    run = FeatureStream(used)
    parts = [run.accept(chunk) for chunk in features.split(7, dim=1)] + [run.finish()]
    whole = used(features, torch.tensor([30]))[0]
    # Activations are rounded chunk by chunk.
    assert (torch.cat(parts, dim=1) - whole).abs().mean() < 0.05 * whole.std()


def test_the_gradient_goes_straight_through_to_the_float_weights() -> None:
    torch.manual_seed(0)
    model, features = nn.Linear(6, 3), torch.randn(4, 6)
    with rounded_weights(model):
        model(features).square().sum().backward()
    grid = rounded(model.weight).requires_grad_()
    nn.functional.linear(features, grid, model.bias.detach()).square().sum().backward()
    assert model.weight.grad is not None and grid.grad is not None
    torch.testing.assert_close(model.weight.grad, grid.grad)
    assert not torch.equal(model.weight, grid)


def test_weights_come_back_when_something_fails_inside() -> None:
    model = nn.Linear(6, 3)
    before = model.weight.detach().clone()
    with pytest.raises(RuntimeError, match="stop"), rounded_weights(model):
        raise RuntimeError("stop")
    assert torch.equal(model.weight, before)


def test_a_matrix_of_zeros_stays_one() -> None:
    assert not rounded(torch.zeros(3, 4)).any()


def test_an_int8_model_is_about_a_quarter_of_the_bytes() -> None:
    model = BLSTMTeacher(**SIZES | {"hidden_dim": 256})
    assert 0.25 < int8_bytes(model) / (4 * count_parameters(model)) < 0.3


def test_what_has_no_weights_to_round_is_refused() -> None:
    with pytest.raises(ConfigError, match="Conv1d has no LSTM or linear layer"):
        quantized_parameters(nn.Conv1d(2, 2, 1))
    with pytest.raises(ConfigError, match="LSTM with a projection"):
        to_int8(LSTMStudent(**SIZES, projection_dim=8))
