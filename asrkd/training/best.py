"""The checkpoints with the lowest dev loss, and the end of a training whose dev loss no longer falls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from asrkd import checkpoint
from asrkd.training.callback import Callback

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer


@dataclass
class BestCheckpoints(Callback):
    """Keeps the averaged weights of the `keep` best evaluations of a run as `best-STEP.pt`; their mean is the result.

    For the first process alone.

    Attributes:
        kept: (dev loss, step) of these, the best first.
    """

    run: Path
    keep: int
    kept: list[tuple[float, int]] = field(default_factory=list)

    def evaluate(self, trainer: Trainer, figures: dict[str, float]) -> None:
        self.add(figures["dev"], trainer.step, [student.state_dict() for student in trainer.averaged_students])

    def add(self, loss: float, step: int, weights: Sequence[dict[str, Any]]) -> None:
        """Write the weights of an evaluation, of every student, if it is among the best, and remove those that no longer are."""
        # Of equal ones the earlier stays.
        ordered = sorted([*self.kept, (loss, step)])[: self.keep]
        if (loss, step) in ordered:
            content = {"step": step, "dev": loss, "model": weights[0], "peers": list(weights[1:])}
            checkpoint.save(self._path(step), content)
        for _, other in set(self.kept) - set(ordered):
            self._path(other).unlink(missing_ok=True)
        self.kept = ordered

    def finish(self, trainer: Trainer) -> None:
        for student, weights in zip(trainer.averaged_students, self.mean(), strict=False):
            student.load_state_dict(weights)

    def mean(self) -> list[dict[str, Tensor]]:
        """For each student the mean of the kept weights (Polyak & Juditsky 1992, over checkpoints as Kaldi's nnet3-combine); empty if none are kept."""
        contents = [checkpoint.read(self._path(step)) for _, step in self.kept]
        students = zip(*([content["model"], *content["peers"]] for content in contents), strict=True)
        return [
            {
                name: sum(part[name].double() for part in parts).div(len(parts)).to(value.dtype)
                if value.is_floating_point()
                else value
                for name, value in parts[0].items()
            }
            for parts in students
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"kept": [list(pair) for pair in self.kept]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume where a state was taken; weights that were kept later are removed."""
        self.kept = [(loss, step) for loss, step in state["kept"]]
        for path in self.run.glob("best-*.pt"):
            if path not in {self._path(step) for _, step in self.kept}:
                path.unlink()

    def _path(self, step: int) -> Path:
        return self.run / f"best-{step:06d}.pt"


@dataclass
class EarlyStopping(Callback):
    """Ends a training after `patience` evaluations in a row without a new lowest dev loss.

    Attributes:
        lowest: dev loss of all evaluations; None before the first.
        without: evaluations in a row without a new lowest.
    """

    patience: int
    lowest: float | None = None
    without: int = 0

    def evaluate(self, trainer: Trainer, figures: dict[str, float]) -> None:
        better = self.lowest is None or figures["dev"] < self.lowest
        self.lowest = figures["dev"] if better else self.lowest
        self.without = 0 if better else self.without + 1
        trainer.stopped |= self.without >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "without": self.without}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lowest, self.without = state["lowest"], state["without"]
