"""Half precision where it is no gain: measured, and told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from training_helpers import settings

from asrkd.distributed import precision
from asrkd.training.trainer import Trainer

CPU = torch.device("cpu")


def test_the_slowdown_is_that_of_the_fastest_products(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    durations = iter([9.0, 4.0, 6.0, 5.0, 5.0, 1.0, 2.0, 3.0])  # of bf16, then of float32
    started = False

    def tell() -> float:
        nonlocal clock, started
        clock += next(durations) if started else 0.0
        started = not started
        return clock

    monkeypatch.setattr(precision.time, "perf_counter", tell)
    assert precision.slowdown("bf16", CPU) == 4.0


@pytest.mark.parametrize(("times", "told"), [(40.0, True), (1.2, False), (0.5, False)])
def test_a_training_in_a_precision_that_is_slow_here_says_so(
    corpus: Path,
    tmp_path: Path,
    times: float,
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda *_: times)
    with caplog.at_level(logging.WARNING):
        Trainer(settings(corpus, tmp_path / "half", scale={"precision": "bf16"}))
    warning = "cpu multiplies matrices 40 times slower in bf16 than in float32"
    assert any(warning in record.message and "float32" in record.message for record in caplog.records) == told
    caplog.clear()
    Trainer(settings(corpus, tmp_path / "single"))
    assert not caplog.records
