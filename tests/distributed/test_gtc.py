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

from asrkd.distributed.gtc import ThresholdCompression, threshold_hook
from asrkd.errors import ConfigError, MismatchError

WEIGHT = "weight"
# Multiples of 2^-20 of up to 16: as gradients they span 24 bits.
GRADIENTS = st.lists(st.lists(st.integers(-(2**24), 2**24), min_size=6, max_size=6), min_size=1, max_size=8)


def compression(threshold: float) -> ThresholdCompression:
    return ThresholdCompression([(WEIGHT, nn.Parameter(torch.zeros(2, 3)))], threshold)


@settings(max_examples=100, deadline=None)
@given(GRADIENTS, st.floats(1e-4, 20.0), st.sampled_from([1, 3, 1000]))
def test_what_was_sent_and_the_residual_are_the_sum_of_the_gradients_without_rounding(
    steps: list[list[int]], threshold: float, most: int
) -> None:
    state = compression(threshold)
    sent = [Fraction(0)] * 6
    for step in steps:
        gradient = torch.tensor([float(Fraction(value, 2**20)) for value in step]).view(2, 3)
        places, counts = state.compress(WEIGHT, gradient, most)
        assert all(1 <= abs(count) <= most for count in counts.tolist())
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            sent[place] += count * Fraction(state.threshold)
        expected = torch.zeros(6, dtype=torch.float64).index_add_(0, places, counts.double()) * state.threshold
        assert torch.equal(state.decompress(places, counts, gradient), expected.float().view(2, 3))
    total = [sum(Fraction(step[place], 2**20) for step in steps) for place in range(6)]
    residual = [Fraction(value) for value in state.residuals[WEIGHT].tolist()]
    assert [a + b for a, b in zip(sent, residual, strict=True)] == total


def test_a_gradient_below_the_threshold_waits_until_it_adds_up() -> None:
    state = compression(0.25)
    gradient = torch.full((2, 3), 0.125)
    assert len(state.compress(WEIGHT, gradient)[0]) == 0
    places, counts = state.compress(WEIGHT, gradient)
    assert places.tolist() == [0, 1, 2, 3, 4, 5] and counts.tolist() == [1] * 6
    assert state.compress(WEIGHT, -2 * gradient)[1].tolist() == [-1] * 6
    assert not state.residuals[WEIGHT].any()


def test_a_count_leaves_less_than_a_threshold_where_single_messages_leave_the_rest() -> None:
    gradient = torch.full((2, 3), -0.9)
    one, many = compression(0.25), compression(0.25)
    assert one.compress(WEIGHT, gradient)[1].tolist() == [-1] * 6
    assert many.compress(WEIGHT, gradient, most=100)[1].tolist() == [-3] * 6
    assert one.residuals[WEIGHT].abs().min() > 0.6 and many.residuals[WEIGHT].abs().max() < 0.25


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


def train(rank: int, world_size: int, threshold: float, counts: bool) -> dict[str, Any]:
    """A few updates, with a state saved and loaded in between."""
    ddp = DistributedDataParallel(model(), bucket_cap_mb=1e-4)  # type: ignore[arg-type]
    state = ThresholdCompression(ddp.module.named_parameters(), threshold, counts=counts) if threshold else None
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


def plain_loop(world_size: int, threshold: float, counts: bool) -> dict[str, Tensor]:
    """The same in one process, element by element as the paper says, or with whole numbers of thresholds."""
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
                times = (residual.abs() / threshold).floor() if counts else 1.0
                sent = torch.where(residual.abs() >= threshold, residual.sign() * threshold * times, 0.0)
                residuals[rank][name] = residual - sent
                sums[name] += sent.float()
        with torch.no_grad():
            for name, parameter in student.named_parameters():
                parameter -= 0.5 * sums[name] / world_size
    return dict(student.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("counts", [False, True])
def test_four_processes_do_what_a_plain_loop_does_and_send_less(counts: bool) -> None:
    threshold = 2.0**-5
    found = on_ranks(4, train, threshold, counts)
    expected = plain_loop(4, threshold, counts)
    for one in found:
        for name, weight in one["weights"].items():
            # Every process adds the same whole thresholds, so all have the same weights to the bit.
            assert torch.equal(weight, found[0]["weights"][name])
            torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)
    sent, dense = found[0]["traffic"]
    assert 0 < sent and dense == 6 * round(2 * 3 / 4 * 4 * sum(weight.numel() for weight in expected.values()))


@pytest.mark.slow
def test_with_counts_a_threshold_near_zero_is_ddp_without_a_hook() -> None:
    plain = on_ranks(2, train, 0.0, True)[0]["weights"]
    for name, weight in on_ranks(2, train, 2.0**-20, True)[0]["weights"].items():
        torch.testing.assert_close(weight, plain[name], rtol=1e-4, atol=1e-5)


def broken(rank: int, world_size: int) -> Tensor:
    """The gradient after a loss whose gradient is NaN."""
    ddp = DistributedDataParallel(nn.Linear(2, 2))
    ddp.register_comm_hook(ThresholdCompression(ddp.module.named_parameters(), 0.5), threshold_hook)
    (ddp(torch.ones(1, 2)).sum() * torch.nan).backward()
    assert ddp.module.weight.grad is not None
    return ddp.module.weight.grad


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_does_not_hide_in_the_residual() -> None:
    assert on_ranks(2, broken)[0].isnan().all()
