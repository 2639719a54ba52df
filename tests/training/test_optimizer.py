"""Optimizers against their recursions, written out in double precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_helpers import settings

from asrkd.errors import ConfigError
from asrkd.training.optimizer import OptimizerConfig, make_optimizer
from asrkd.training.trainer import Trainer

TARGET = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
RATE, DECAY = 0.1, 0.01


def gradient(weight: Tensor) -> Tensor:
    return weight - TARGET


def stepped(**given: Any) -> Tensor:
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = make_optimizer(
        nn.ParameterList([weight]), OptimizerConfig(learning_rate=RATE, weight_decay=DECAY, **given)
    )
    for _ in range(20):
        weight.grad = gradient(weight.detach())
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_nesterovs_recursion(momentum: float) -> None:
    weight, velocity = torch.zeros_like(TARGET), torch.zeros_like(TARGET)
    for _ in range(20):
        slope = gradient(weight) + DECAY * weight
        velocity = momentum * velocity + slope
        weight = weight - RATE * (slope + momentum * velocity)
    torch.testing.assert_close(stepped(name="sgd", momentum=momentum), weight, rtol=1e-12, atol=1e-12)


def test_adamw_is_its_recursion_whatever_the_momentum_of_sgd() -> None:
    weight, first, second = (torch.zeros_like(TARGET) for _ in range(3))
    for step in range(1, 21):
        slope = gradient(weight)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        ahead = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        weight = weight - RATE * DECAY * weight - RATE * ahead
    for momentum in (0.0, 0.9):
        torch.testing.assert_close(stepped(momentum=momentum), weight, rtol=1e-12, atol=1e-12)


def test_rare_pieces_of_one_size_move_sgd_as_far_as_the_whole_and_adamw_less() -> None:
    # A slope of 0.01 as a whole, and as one piece of 1 every 100 updates: what compression makes of it.
    moved = {}
    for name in ("sgd", "adamw"):
        for pieces in (False, True):
            weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
            optimizer = make_optimizer(
                nn.ParameterList([weight]), OptimizerConfig(name=name, learning_rate=0.001, momentum=0.0)
            )
            for step in range(1000):
                weight.grad = torch.full_like(weight, float(step % 100 == 99) if pieces else 0.01)
                optimizer.step()
            moved[name, pieces] = -weight.item()
    assert moved["sgd", True] == pytest.approx(moved["sgd", False])
    assert moved["adamw", True] < 0.2 * moved["adamw", False]


@pytest.mark.slow
def test_a_training_with_sgd_learns(corpus: Path, tmp_path: Path) -> None:
    given = {"name": "sgd", "learning_rate": 0.5, "warmup_steps": 5}
    trainer = Trainer(settings(corpus, tmp_path / "run", optimizer=given))
    before = trainer.dev_loss()
    trainer.train()
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    assert trainer.dev_loss() < 0.9 * before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "adam"}, "^optimizer.name: must be one of adamw, sgd, not 'adam'; did you mean 'adamw'"),
        ({"momentum": 1.0}, "^optimizer.momentum: must be at least 0 and below 1, not 1.0"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_optimizer(nn.ParameterList([torch.zeros(1)]), OptimizerConfig(**given))
