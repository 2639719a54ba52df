"""Gradient threshold compression: nothing is lost, and what processes add up is what a plain loop does."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_helpers import on_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from asrkd.errors import ConfigError, MismatchError
from asrkd.training.gtc import ThresholdCompression, threshold_hook

WEIGHT = "weight"
# Multiples of 2^-20 of up to 16: as gradients they span 24 bits.
GRADIENTS = st.lists(st.lists(st.integers(-(2**24), 2**24), min_size=6, max_size=6), min_size=1, max_size=8)


def compression(threshold: float) -> ThresholdCompression:
    return ThresholdCompression([(WEIGHT, nn.Parameter(torch.zeros(2, 3)))], threshold)


@settings(max_examples=100, deadline=None)
@given(GRADIENTS, st.floats(1e-4, 20.0))
def test_what_was_sent_and_the_residual_are_the_sum_of_the_gradients_without_rounding(
    steps: list[list[int]], threshold: float
) -> None:
    state = compression(threshold)
    sent = [Fraction(0)] * 6
    for step in steps:
        gradient = torch.tensor([float(Fraction(value, 2**20)) for value in step]).view(2, 3)
        received = state.decompress(state.compress(WEIGHT, gradient), gradient)
        assert received.shape == gradient.shape
        assert set(received.abs().unique().tolist()) <= {0.0, state.threshold}
        sent = [a + Fraction(b) for a, b in zip(sent, received.flatten().tolist(), strict=True)]
    total = [sum(Fraction(step[place], 2**20) for step in steps) for place in range(6)]
    residual = [Fraction(value) for value in state.residuals[WEIGHT].tolist()]
    assert [a + b for a, b in zip(sent, residual, strict=True)] == total


def test_a_gradient_below_the_threshold_waits_until_it_adds_up() -> None:
    state = compression(0.25)
    gradient = torch.full((2, 3), 0.125)
    assert len(state.compress(WEIGHT, gradient)) == 0
    assert state.compress(WEIGHT, gradient).tolist() == [0, 2, 4, 6, 8, 10]
    assert state.compress(WEIGHT, -2 * gradient).tolist() == [1, 3, 5, 7, 9, 11]
    assert not state.residuals[WEIGHT].any()


def test_settings_and_states_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="compression is 0.0, but must be above 0"):
        compression(0.0)
    with pytest.raises(MismatchError, match="residual of 5 values for 'weight', the model has 6"):
        compression(1.0).load_state_dict({WEIGHT: torch.zeros(5)})


def data(rank: int, step: int) -> Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(100 * rank + step))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3))


def train(rank: int, world_size: int, threshold: float) -> dict[str, Any]:
    """A few updates, with a state saved and loaded in between."""
    ddp = DistributedDataParallel(model(), bucket_cap_mb=1e-4)  # type: ignore[arg-type]
    state = ThresholdCompression(ddp.module.named_parameters(), threshold) if threshold else None
    if state:
        ddp.register_comm_hook(state, threshold_hook)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.5)
    for step in range(6):
        if state and step == 3:
            saved = {name: residual.clone() for name, residual in state.state_dict().items()}
            state.residuals = {}
            state.load_state_dict(saved)
        optimizer.zero_grad()
        ddp(data(rank, step)).square().mean().backward()
        optimizer.step()
    traffic = (state.bytes_sent, state.bytes_dense) if state else None
    return {"weights": dict(ddp.module.state_dict()), "traffic": traffic}


def plain_loop(world_size: int, threshold: float) -> dict[str, Tensor]:
    """The same in one process, element by element as the paper says."""
    student = model()
    residuals = [
        {name: torch.zeros_like(p).double() for name, p in student.named_parameters()} for _ in range(world_size)
    ]
    for step in range(6):
        sums = {name: torch.zeros_like(p) for name, p in student.named_parameters()}
        for rank in range(world_size):
            student.zero_grad()
            student(data(rank, step)).square().mean().backward()
            for name, parameter in student.named_parameters():
                assert parameter.grad is not None
                residual = residuals[rank][name] + parameter.grad
                sent = torch.where(residual.abs() >= threshold, residual.sign() * threshold, 0.0)
                residuals[rank][name] = residual - sent
                sums[name] += sent.float()
        with torch.no_grad():
            for name, parameter in student.named_parameters():
                parameter -= 0.5 * sums[name] / world_size
    return dict(student.state_dict())


def test_four_processes_do_what_a_plain_loop_does_and_send_less() -> None:
    threshold = 2.0**-5
    found = on_ranks(4, train, threshold)
    expected = plain_loop(4, threshold)
    for one in found:
        for name, weight in one["weights"].items():
            # Every process adds the same whole thresholds, so all have the same weights to the bit.
            assert torch.equal(weight, found[0]["weights"][name])
            torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)
    sent, dense = found[0]["traffic"]
    assert 0 < sent and dense == 6 * round(2 * 3 / 4 * 4 * sum(weight.numel() for weight in expected.values()))


def broken(rank: int, world_size: int) -> Tensor:
    """The gradient after a loss whose gradient is NaN."""
    ddp = DistributedDataParallel(nn.Linear(2, 2))
    ddp.register_comm_hook(ThresholdCompression(ddp.module.named_parameters(), 0.5), threshold_hook)
    (ddp(torch.ones(1, 2)).sum() * torch.nan).backward()
    assert ddp.module.weight.grad is not None
    return ddp.module.weight.grad


def test_a_gradient_that_is_not_finite_does_not_hide_in_the_residual() -> None:
    assert on_ranks(1, broken)[0].isnan().all()
