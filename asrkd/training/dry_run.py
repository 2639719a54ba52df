"""What a training will take, from a few updates of it: parameters, memory, time."""

from __future__ import annotations

import dataclasses
import resource
import sys
import tempfile
import time
from dataclasses import dataclass

import torch

from asrkd.models import count_parameters
from asrkd.training.config import TrainConfig
from asrkd.training.dev_wer import DevDecodingConfig
from asrkd.training.trainer import Trainer

# Updates that start readers and choose kernels, which are not timed.
_WARM = 2


@dataclass(frozen=True)
class DryRun:
    """
    Attributes:
        parameters: of the model.
        updates: of the whole schedule.
        seconds_per_update: of those that were timed, the mean.
        seconds_per_evaluation: on the dev store; 0 without one.
        evaluations: on the dev store in the whole training.
        rtfx: seconds of audio that are trained on in a second.
        memory_mb: the most that the process held; on a GPU, of its memory.
    """

    parameters: int
    updates: int
    seconds_per_update: float
    seconds_per_evaluation: float
    evaluations: int
    rtfx: float
    memory_mb: float

    @property
    def hours(self) -> float:
        """Of the whole training."""
        return (self.updates * self.seconds_per_update + self.evaluations * self.seconds_per_evaluation) / 3600


def dry_run(config: TrainConfig, *, updates: int = 10) -> DryRun:
    """Make the first updates of a training in a temporary folder, and one evaluation; the run's own folder is not touched.

    Raises:
        ConfigError, MismatchError, CorpusError, AsrkdError: what training would raise.
    """
    with tempfile.TemporaryDirectory(prefix="asrkd-dry-run-") as folder:
        settings = dataclasses.replace(
            config,
            run=folder,
            log_steps=1,
            eval_steps=sys.maxsize,
            checkpoint_steps=sys.maxsize,
            dev_decoding=DevDecodingConfig(),
        )
        trainer = Trainer(settings)
        total = trainer.total_steps
        timed = min(updates, max(total - 1, 1))
        marks: list[tuple[float, float]] = []

        def mark(step: int, total: int, losses: dict[str, float]) -> None:
            marks.append((time.monotonic(), losses["rtfx"]))

        stop = min(_WARM + timed, total)
        trainer.train(mark, stop_at=stop if stop < total else None)
        measured = marks[-timed:]
        began = marks[-timed - 1][0] if len(marks) > timed else measured[0][0]
        evaluation = 0.0
        if config.dev:
            before = time.monotonic()
            trainer.dev_loss()
            evaluation = time.monotonic() - before
        return DryRun(
            parameters=count_parameters(trainer.model),
            updates=total,
            seconds_per_update=(measured[-1][0] - began) / max(len(measured), 1),
            seconds_per_evaluation=evaluation,
            evaluations=-(-total // config.eval_steps) if config.dev else 0,
            rtfx=sum(speed for _, speed in measured) / len(measured),
            memory_mb=_memory(trainer.device) / 1e6,
        )


def _memory(device: torch.device) -> float:
    """Bytes at most."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Kilobytes, but bytes on a Mac.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024)
