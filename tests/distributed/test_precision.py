"""Half precision where it is no gain: measured, and told."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
import torch
from training_helpers import settings

from asrkd.distributed import precision
from asrkd.training.trainer import Trainer

CPU = torch.device("cpu")


def seconds(dtype: torch.dtype) -> float:
    """The fastest of some products of larger matrices."""
    factor = torch.randn(384, 384).to(dtype)
    found = []
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(factor, factor)
        found.append(time.perf_counter() - start)
    return min(found)


def test_the_slowdown_is_that_of_other_matrices() -> None:
    assert precision.slowdown("float32", CPU) == pytest.approx(1.0)
    # Within what a busy machine makes of it; without instructions for it, it is some tens.
    direct = seconds(torch.bfloat16) / seconds(torch.float32)
    assert direct / 8 < precision.slowdown("bf16", CPU) < direct * 8


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
