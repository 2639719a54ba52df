"""The figures of a run: `metrics.jsonl` and TensorBoard."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asrkd import files, text
from asrkd.errors import ConfigError
from asrkd.streaming.batch import Batch
from asrkd.training.board import Board
from asrkd.training.callback import Callback

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer

METRICS = "metrics.jsonl"


class Log(Callback):
    """Writes figures to `metrics.jsonl` and TensorBoard: every `log_steps` the mean losses since, over all processes, and those of evaluations; to
    TensorBoard alone what differs from run to run, such as speed: seconds of audio (RTFx) and output frames a second.

    Lines of a part of the run that is repeated are dropped.
    """

    def __init__(self) -> None:
        self.board: Board | None = None
        self._reset()

    def _reset(self) -> None:
        self.sums, self.counts = Counter[str](), Counter[str]()
        self.began, self.seconds, self.frames = time.monotonic(), 0.0, 0

    def begin(self, trainer: Trainer) -> None:
        self._reset()
        if trainer.ranks.first:
            kept = [line for line in read_metrics(trainer.run) if line["step"] <= trainer.step]
            files.write(trainer.run / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
            self.board = Board(trainer.run / "tensorboard", trainer.step + 1)

    def update(self, trainer: Trainer, batches: Sequence[Batch], losses: Sequence[dict[str, float]]) -> None:
        for figures in losses:
            self.sums.update(figures)
            self.counts.update(figures.keys())
        self.seconds += sum(batch.seconds for batch in batches)
        self.frames += sum(int(batch.num_frames.sum()) for batch in batches)
        if trainer.step % trainer.config.log_steps and trainer.step != trainer.end:
            return
        took = max(time.monotonic() - self.began, 1e-9)
        parts = trainer.ranks.gather((self.sums, self.counts, self.seconds, self.frames))
        self._reset()
        names = dict.fromkeys(name for sums, *_ in parts for name in sums)
        means = {name: sum(part[0][name] for part in parts) / sum(part[1][name] for part in parts) for name in names}
        means["learning_rate"] = trainer.optimizer.param_groups[0]["lr"]
        speed = {
            "rtfx": sum(part[2] for part in parts) / took,
            "frames_per_second": sum(part[3] for part in parts) / took,
        }
        speed |= trainer.parallel.traffic()
        self._write(trainer, means)
        self._show(trainer, speed)
        trainer.figures = means | speed

    def evaluate(self, trainer: Trainer, figures: dict[str, float]) -> None:
        if figures:
            self._write(trainer, figures)
            trainer.figures |= figures

    def end(self, trainer: Trainer) -> None:
        if self.board is not None:
            self.board.close()

    def _write(self, trainer: Trainer, figures: dict[str, float]) -> None:
        if trainer.ranks.first:
            with open(trainer.run / METRICS, "a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": trainer.step, **figures}) + "\n")
            self._show(trainer, figures)

    def _show(self, trainer: Trainer, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            if self.board is not None:
                self.board.add(f"train/{name}", value, trainer.step)


class RisingDev(Callback):
    """Warns of a dev loss that was never lower than at its first evaluation."""

    def finish(self, trainer: Trainer) -> None:
        if trainer.ranks.first and (warning := rising_dev(trainer.run)):
            trainer.warnings.append(warning)


def rising_dev(run: Path) -> str | None:
    """What to say of a run whose dev loss was never lower than at its first evaluation, of three or more; None of any other."""
    losses = [(line["step"], line["dev"]) for line in read_metrics(run) if "dev" in line]
    if len(losses) < 3 or min(loss for _, loss in losses) < losses[0][1]:
        return None
    (first, lowest), (last, highest) = losses[0], losses[-1]
    return (
        f"the dev loss rose from the first evaluation on ({lowest:.4g} after {first} updates, {highest:.4g} after {last}), so the run has not "
        "learned what the dev labels say: are both sets aligned by one aligner (asrkd align --save, --from), and is the learning rate too high?"
    )


def read_metrics(run: Path) -> list[dict[str, float]]:
    """The lines of a run's `metrics.jsonl`; a last line that was cut off is left out."""
    path = run / METRICS
    lines = []
    for _, line in text.numbered_lines(path, what="metrics", error=ConfigError) if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
