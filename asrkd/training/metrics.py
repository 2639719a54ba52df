"""The figures of a run: `metrics.jsonl` and TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asrkd import files, text
from asrkd.distributed.ranks import ALONE, Ranks
from asrkd.errors import ConfigError
from asrkd.streaming.batch import Batch
from asrkd.training.callback import Callback

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer


class Metrics:
    """Mean losses between log points over all processes, to `metrics.jsonl` and TensorBoard; lines after a resumed step are dropped."""

    def __init__(self, run: Path, step: int, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.path, self.board = run / "metrics.jsonl", None
        if ranks.first:
            from torch.utils.tensorboard import SummaryWriter

            kept = [line for line in read_metrics(run) if line["step"] <= step]
            files.write(self.path, "".join(json.dumps(line) + "\n" for line in kept))
            self.board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def add(self, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def flush(self, step: int, **extra: float) -> dict[str, float]:
        """The means over all processes, on the first; every process must call this."""
        parts = self.ranks.gather((self.sums, self.counts))
        self.sums, self.counts = {}, {}
        names = dict.fromkeys(name for sums, _ in parts for name in sums)
        means = {
            name: sum(sums.get(name, 0.0) for sums, _ in parts) / sum(counts.get(name, 0) for _, counts in parts)
            for name in names
        }
        return self.write(step, means | extra)

    def write(self, step: int, values: dict[str, float]) -> dict[str, float]:
        if self.board is None:
            return values
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(f"train/{name}", value, step)
        return values

    def show(self, step: int, values: dict[str, float]) -> None:
        """To TensorBoard alone: what differs from run to run, such as speed."""
        for name, value in values.items():
            if self.board is not None:
                self.board.add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


class Speed:
    """How fast a training goes: seconds of audio a second (RTFx) and output frames a second, over all processes."""

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self._reset()

    def _reset(self) -> None:
        self.began, self.seconds, self.frames = time.monotonic(), 0.0, 0

    def add(self, batches: Sequence[Batch]) -> None:
        self.seconds += sum(batch.seconds for batch in batches)
        self.frames += sum(int(batch.num_frames.sum()) for batch in batches)

    def measure(self) -> dict[str, float]:
        """Since the last call, on the first process; every process must call this."""
        took = max(time.monotonic() - self.began, 1e-9)
        parts = self.ranks.gather((self.seconds, self.frames))
        self._reset()
        return {
            "rtfx": sum(seconds for seconds, _ in parts) / took,
            "frames_per_second": sum(frames for _, frames in parts) / took,
        }


class Log(Callback):
    """Writes mean losses and speed every `log_steps`, and the figures of evaluations."""

    def begin(self, trainer: Trainer) -> None:
        self.metrics, self.speed = Metrics(trainer.run, trainer.step, trainer.ranks), Speed(trainer.ranks)

    def update(self, trainer: Trainer, batches: Sequence[Batch], losses: Sequence[dict[str, float]]) -> None:
        for figures in losses:
            self.metrics.add(figures)
        self.speed.add(batches)
        if trainer.step % trainer.config.log_steps == 0 or trainer.step == trainer.end:
            means = self.metrics.flush(trainer.step, learning_rate=trainer.optimizer.param_groups[0]["lr"])
            speed = self.speed.measure() | trainer.parallel.traffic()
            self.metrics.show(trainer.step, speed)
            trainer.figures = means | speed

    def evaluate(self, trainer: Trainer, figures: dict[str, float]) -> None:
        if figures:
            trainer.figures |= self.metrics.write(trainer.step, figures)

    def end(self, trainer: Trainer) -> None:
        if hasattr(self, "metrics"):
            self.metrics.close()


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
    path = run / "metrics.jsonl"
    lines = []
    for _, line in text.numbered_lines(path, what="metrics", error=ConfigError) if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
