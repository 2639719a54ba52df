"""Numbers of a training's config that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from asrkd import config as configs
from asrkd.errors import ConfigError
from asrkd.training.check import check_numbers
from asrkd.training.config import TrainConfig


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eval_steps": 0}, "eval_steps is 0, but must be at least 1"),
        ({"keep_best": -1}, "keep_best is -1, but must be at least 0"),
        ({"optimizer": {"learning_rate": 0.0}}, "optimizer.learning_rate is 0.0, but must be above 0"),
        ({"optimizer": {"clip_norm": float("nan")}}, "optimizer.clip_norm is nan, but must be above 0"),
        ({"optimizer": {"ema_decay": 1.5}}, "optimizer.ema_decay is 1.5, but must be at least 0 and below 1"),
        ({"dev_decoding": {"every": -2}}, "dev_decoding.every is -2, but must be at least 0"),
    ],
)
def test_numbers_out_of_their_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_numbers(configs.from_dict(TrainConfig, {"run": "run", "inventory": {"lexicon": "lexicon.txt"}} | given))


def test_numbers_at_the_ends_of_their_ranges() -> None:
    given = {"keep_best": 0, "optimizer": {"ema_decay": 0.0, "clip_norm": float("inf"), "warmup_steps": 0}}
    check_numbers(configs.from_dict(TrainConfig, {"run": "run", "inventory": {"lexicon": "lexicon.txt"}} | given))
