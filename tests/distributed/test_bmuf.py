"""Blockwise model-update filtering against the paper's equations in double precision."""

from __future__ import annotations

import pytest
import torch
from rank_helpers import on_ranks
from torch import Tensor, nn

from asrkd.distributed.bmuf import BlockMomentum
from asrkd.errors import ConfigError


def test_one_process_without_block_momentum_is_plain_sgd_bit_for_bit() -> None:
    models = []
    for block in (0, 3):
        torch.manual_seed(0)
        model = nn.Linear(5, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
        blocks = BlockMomentum(model.parameters(), momentum=0.0)
        for step in range(10):
            optimizer.zero_grad()
            model(torch.randn(3, 5)).square().sum().backward()
            optimizer.step()
            if block and step % block == block - 1:
                blocks.end_block()
        models.append(model)
    assert torch.equal(models[0].weight, models[1].weight) and torch.equal(models[0].bias, models[1].bias)


def step_of(rank: int, block: int) -> Tensor:
    return torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(10 * rank + block))


SETTINGS = [
    (momentum, rate, nesterov) for momentum, rate in ((0.0, 1.0), (0.5, 1.0), (0.75, 1.5)) for nesterov in (False, True)
]


def all_filtered(rank: int, world_size: int) -> list[dict[str, Tensor]]:
    """With each of the settings."""
    return [filtered(rank, *settings) for settings in SETTINGS]


def filtered(rank: int, momentum: float, rate: float, nesterov: bool) -> dict[str, Tensor]:
    """Blocks whose updates are known; the state is saved and loaded after the second."""
    weight = nn.Parameter(torch.ones(6, dtype=torch.float64))
    blocks = BlockMomentum([weight], momentum=momentum, rate=rate, nesterov=nesterov)
    for block in range(5):
        if block == 2:
            saved = {name: [tensor.clone() for tensor in tensors] for name, tensors in blocks.state_dict().items()}
            blocks = BlockMomentum([weight], momentum=momentum, rate=rate, nesterov=nesterov)
            blocks.load_state_dict(saved)
        with torch.no_grad():
            weight += step_of(rank, block)
        blocks.end_block()
    with blocks.at_center():
        center = weight.detach().clone()
    return {
        "start": weight.detach(),
        "center": center,
        "kept": blocks.center[0],
        "sent": torch.tensor(blocks.bytes_sent),
    }


@pytest.mark.slow
def test_two_processes_follow_the_papers_equations() -> None:
    found = on_ranks(2, all_filtered)
    for number, settings in enumerate(SETTINGS):
        follows(*settings, [one[number] for one in found])


def follows(momentum: float, rate: float, nesterov: bool, found: list[dict[str, Tensor]]) -> None:
    center = start = torch.ones(6, dtype=torch.float64)
    delta = torch.zeros(6, dtype=torch.float64)
    for block in range(5):
        update = start + (step_of(0, block) + step_of(1, block)) / 2 - start
        delta = momentum * delta + rate * update
        center = center + delta
        start = center + momentum * delta if nesterov else center
    for one in found:
        torch.testing.assert_close(one["start"], start, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(one["center"], center, rtol=1e-12, atol=1e-12)
        assert torch.equal(one["center"], one["kept"])
        assert int(one["sent"]) == 3 * 6 * 8  # after the state was loaded


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"momentum": 1.0}, "block momentum is 1.0"), ({"momentum": 0.5, "rate": 0.0}, "rate is 0.0")],
)
def test_settings_that_cannot_be(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BlockMomentum([torch.zeros(1)], **settings)
