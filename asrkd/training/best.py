"""The checkpoints with the lowest dev loss, and whether there has been none for too long."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from asrkd.training import checkpoint


@dataclass
class Best:
    """Keeps the weights of the `keep` best evaluations of a run as `best-STEP.pt`.

    Attributes:
        kept: (dev loss, step) of these, the best first.
        lowest: dev loss of all evaluations; None before the first.
        without: evaluations in a row without a new lowest.
    """

    run: Path
    keep: int
    patience: int
    kept: list[tuple[float, int]] = field(default_factory=list)
    lowest: float | None = None
    without: int = 0

    def add(self, loss: float, step: int, weights: dict[str, Any]) -> None:
        """Note an evaluation; write its weights if it is among the best, and remove those that no longer are."""
        better = self.lowest is None or loss < self.lowest
        self.lowest = loss if better else self.lowest
        self.without = 0 if better else self.without + 1
        if not self.keep:
            return
        # Of equal ones the earlier stays.
        ordered = sorted([*self.kept, (loss, step)])[: self.keep]
        if (loss, step) in ordered:
            checkpoint.save(self._path(step), {"step": step, "dev": loss, "model": weights})
        for _, other in set(self.kept) - set(ordered):
            self._path(other).unlink(missing_ok=True)
        self.kept = ordered

    @property
    def enough(self) -> bool:
        """Whether the run should stop."""
        return self.patience > 0 and self.without >= self.patience

    def mean(self) -> dict[str, Tensor] | None:
        """The mean of the kept weights (Polyak & Juditsky 1992, over checkpoints as Kaldi's nnet3-combine); None if none are kept."""
        if not self.kept:
            return None
        parts = [checkpoint.read(self._path(step))["model"] for _, step in self.kept]
        return {
            name: sum(part[name].double() for part in parts).div(len(parts)).to(value.dtype)
            if value.is_floating_point()
            else value
            for name, value in parts[0].items()
        }

    def state_dict(self) -> dict[str, Any]:
        return {"kept": [list(pair) for pair in self.kept], "lowest": self.lowest, "without": self.without}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where a state was taken; weights that were kept later are removed."""
        self.kept = [(loss, step) for loss, step in state["kept"]]
        self.lowest, self.without = state["lowest"], state["without"]
        for path in self.run.glob("best-*.pt"):
            if path not in {self._path(step) for _, step in self.kept}:
                path.unlink()

    def _path(self, step: int) -> Path:
        return self.run / f"best-{step:06d}.pt"
