"""Callbacks of a user's own around a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from training_helpers import settings

from asrkd.errors import ConfigError
from asrkd.streaming.batch import Batch
from asrkd.training.callback import Callback
from asrkd.training.metrics import read_metrics
from asrkd.training.trainer import Trainer

STEPS = {"schedule": [{"steps": 9, "mixture": {"labeled": 1}}], "eval_steps": 2, "checkpoint_steps": 1}


class Watch(Callback):
    """Counts utterances, over the whole of a run; stops it at the evaluation after update `stop`."""

    def __init__(self, stop: int = 0) -> None:
        self.stop, self.seen, self.hooks = stop, 0, list[str]()

    def begin(self, trainer: Trainer) -> None:
        self.hooks.append("begin")

    def update(self, trainer: Trainer, batches: Sequence[Batch], losses: Sequence[dict[str, float]]) -> None:
        assert len(batches) == len(losses) and all("labeled" in figures for figures in losses)
        self.seen += sum(map(len, batches))
        self.hooks.append(f"update {trainer.step}")

    def evaluate(self, trainer: Trainer, figures: dict[str, float]) -> None:
        assert figures["dev"] > 0
        figures["seen"] = float(self.seen)
        trainer.stopped = trainer.step == self.stop
        self.hooks.append(f"evaluate {trainer.step}")

    def finish(self, trainer: Trainer) -> None:
        assert not (trainer.run / "final.pt").exists()
        self.hooks.append("finish")

    def end(self, trainer: Trainer) -> None:
        self.hooks.append("end")

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


def seen(run: Path) -> list[tuple[float, float]]:
    return [(line["step"], line["seen"]) for line in read_metrics(run) if "seen" in line]


@pytest.mark.slow
def test_a_callback_sees_a_training_adds_to_its_log_and_resumes_with_it(corpus: Path, tmp_path: Path) -> None:
    watch = Watch()
    figures = Trainer(settings(corpus, tmp_path / "whole", **STEPS), callbacks=[watch]).train()
    assert figures["seen"] == watch.seen > 9 and figures["dev"] > 0
    assert [step for step, _ in seen(tmp_path / "whole")] == [2, 4, 6, 8, 9]
    assert watch.hooks[:3] == ["begin", "update 1", "update 2"] and watch.hooks[3] == "evaluate 2"
    assert watch.hooks[-3:] == ["evaluate 9", "end", "finish"]
    for stop in (3, 7, 9):
        Trainer(settings(corpus, tmp_path / "parts", **STEPS), callbacks=[Watch()]).train(stop_at=stop)
    assert seen(tmp_path / "parts") == seen(tmp_path / "whole")


def test_a_callback_ends_a_training(corpus: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(corpus, tmp_path / "run", **STEPS), callbacks=[Watch(stop=4)])
    trainer.train()
    assert trainer.step == 4 and trainer.done
    assert Trainer(settings(corpus, tmp_path / "run", **STEPS), callbacks=[Watch()]).done


def test_callbacks_whose_states_could_not_be_told_apart_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="callbacks: Watch is there 2 times"):
        Trainer(settings(corpus, tmp_path / "run", **STEPS), callbacks=[Watch(), Watch()])
