"""The best checkpoints of a run, early stopping, and the dry run."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from training_helpers import settings

from asrkd import checkpoint
from asrkd.errors import ConfigError
from asrkd.training.best import BestCheckpoints, EarlyStopping
from asrkd.training.dry_run import dry_run
from asrkd.training.trainer import Trainer


def test_the_best_are_kept_and_their_mean_is_the_result(tmp_path: Path) -> None:
    best = BestCheckpoints(tmp_path, keep=2)
    assert best.mean() == []
    values = {1: 5.0, 2: 3.0, 3: 4.0, 4: 2.0, 5: 2.0}
    for step, loss in values.items():
        best.add(loss, step, [{"weight": torch.full((2,), float(step)), "count": torch.tensor(step)}])
    assert best.kept == [(2.0, 4), (2.0, 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-000004.pt", "best-000005.pt"]
    (mean,) = best.mean()
    assert mean["weight"].tolist() == [4.5, 4.5] and int(mean["count"]) == 4


def test_patience_counts_evaluations_without_a_new_lowest() -> None:
    stopping, trainer = EarlyStopping(patience=2), cast(Trainer, SimpleNamespace(stopped=False))
    stopped = []
    for loss in (3.0, 2.0, 2.5, 1.9, 2.0, 1.9):
        stopping.evaluate(trainer, {"dev": loss})
        stopped.append(trainer.stopped)
    assert stopped == [False, False, False, False, False, True]


@pytest.mark.slow
def test_a_run_with_best_checkpoints_resumes_exactly_and_stops_early(corpus: Path, tmp_path: Path) -> None:
    # A learning rate at which the dev loss soon goes up again.
    changes: dict[str, Any] = {
        "schedule": [{"steps": 300, "mixture": {"labeled": 1}}],
        "optimizer": {"learning_rate": 0.3, "warmup_steps": 1, "final_scale": 1.0, "ema_decay": 0.5},
        "eval_steps": 2,
        "keep_best": 3,
        "patience": 4,
    }
    whole = Trainer(settings(corpus, tmp_path / "whole", **changes))
    whole.train()
    assert whole.stopped and whole.done and whole.step < 300
    while not (part := Trainer(settings(corpus, tmp_path / "parts", **changes))).done:
        part.train(stop_at=part.step + 3)
    one, other = (checkpoint.read(tmp_path / name / "final.pt") for name in ("whole", "parts"))
    assert one["step"] == other["step"] == whole.step
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name])
    (best,) = [callback for callback in whole.callbacks if isinstance(callback, BestCheckpoints)]
    kept = [checkpoint.read(path) for path in sorted((tmp_path / "whole").glob("best-*.pt"))]
    assert [
        (content["dev"], content["step"]) for content in sorted(kept, key=lambda content: content["dev"])
    ] == best.kept
    for name, value in one["model"].items():
        torch.testing.assert_close(value, sum(content["model"][name] for content in kept) / 3)


def test_the_best_are_told_by_a_dev_store(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="^keep_best: is 2, but the config names no dev store"):
        Trainer(settings(corpus, tmp_path / "run", dev=None, keep_best=2))


@pytest.mark.slow
def test_a_dry_run_says_what_training_takes_and_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    config = settings(corpus, tmp_path / "run", schedule=[{"steps": 200, "mixture": {"labeled": 1}}])
    found = dry_run(config, updates=3)
    assert not (tmp_path / "run").exists()
    assert found.updates == 200 and found.evaluations == math.ceil(200 / 15)
    assert found.parameters == sum(weight.numel() for weight in Trainer(config).model.parameters())
    assert found.hours * 3600 == pytest.approx(200 * found.seconds_per_update + 14 * found.seconds_per_evaluation)
    assert min(found.seconds_per_update, found.seconds_per_evaluation, found.rtfx, found.memory_mb) > 0
    # A schedule that is shorter than a dry run is run to its end.
    short = settings(corpus, tmp_path / "run", schedule=[{"steps": 2, "mixture": {"labeled": 1}}])
    assert dry_run(short).updates == 2
