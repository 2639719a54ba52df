"""Trainings, and decodings, that do not wait for each other, in processes of one thread each."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
import yaml

from asrkd import config as configs
from asrkd import text as texts
from asrkd.acoustic import TrainedModel
from asrkd.errors import AsrkdError, StoreError
from asrkd.processes import check_guard
from asrkd.training.config import TrainConfig
from asrkd.training.inputs import inputs
from asrkd.training.metrics import read_metrics
from asrkd.training.run_folder import check_resumable
from asrkd.training.trainer import Trainer
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.decode import decode_system
from asrkd_recipes.study.results import RESULT
from asrkd_recipes.study.together import ends_by_itself, run_together

_log = logging.getLogger(__name__)


class StageProgress(Protocol):
    """Shows how far a stage has come: `asrkd.cli.progress.ProgressBar.show`."""

    def __call__(
        self, label: str, done: int, total: int | None, note: str = "", *, seconds: float | None = None
    ) -> None: ...


def train_all(
    jobs: Mapping[str, TrainConfig], workers: int, progress: StageProgress, processes: Mapping[str, int] | None = None
) -> None:
    """Train every run to its end; runs that are finished take no time.

    Args:
        jobs: configs by name.
        workers: trainings at a time.
        processes: how many processes train a run, 1 if not said.

    Raises:
        ConfigError: a finished run is of another config, or an input has changed since.
        AsrkdError: a training failed, or its process died.
    """
    check_guard()
    waiting = {name: job for name, job in jobs.items() if not (Path(job.run) / "final.pt").exists()}
    for name, job in jobs.items():
        if name not in waiting:  # finished, but perhaps with other settings or inputs
            check_resumable(Path(job.run), job, _inputs(job))
    if not waiting:
        return
    counts = processes or {}
    calls = {name: (_train, (configs.to_yaml(job), os.getpid(), counts.get(name, 1))) for name, job in waiting.items()}
    run_together(
        calls, workers, lambda _: _show(waiting, progress), "training", "Start again to resume from its checkpoint"
    )
    for name, job in waiting.items():
        for warning in TrainedModel.read(job.run).facts.get("warnings", []):
            _log.warning("%s: %s", name, warning)


def decode_all(
    config: StudyConfig, systems: Mapping[str, tuple[str, list[Path], Path]], workers: int, progress: StageProgress
) -> None:
    """Decode and score every system (`decode_system`); those that are decoded take no time.

    Args:
        systems: by name, the spec, the runs that it is made of, and the folder of its results.
        workers: decodings at a time; one is done in this process.

    Raises:
        AsrkdError: a decoding failed, or its process died.
    """

    def show(left: list[str]) -> None:
        progress("decode", len(systems) - len(left), len(systems), ", ".join(left[:workers]))

    waiting = [name for name, (_, _, out) in systems.items() if not (out / RESULT).exists()]
    if workers > 1 and waiting:
        calls = {name: (_decode, (config, *systems[name])) for name in waiting}
        run_together(calls, workers, show, "decoding", "Start again to decode what is left")
    else:
        for number, name in enumerate(waiting):
            show(waiting[number:])
            decode_system(config, *systems[name])
    show([])


def _decode(config: StudyConfig, spec: str, runs: list[Path], out: Path) -> None:
    torch.set_num_threads(1)
    decode_system(config, spec, runs, out)


def _inputs(job: TrainConfig) -> dict[str, str]:
    """The inputs of a finished training; none where its stores were removed since, which it needs no more."""
    try:
        return inputs(job)
    except StoreError:
        return {}


def _show(jobs: Mapping[str, TrainConfig], progress: StageProgress) -> None:
    done = total = 0
    notes = []
    for name, job in jobs.items():
        steps = sum(phase.steps for phase in job.schedule)
        lines = read_metrics(Path(job.run))
        step = steps if (Path(job.run) / "final.pt").exists() else int(lines[-1]["step"]) if lines else 0
        done, total = done + step, total + steps
        if 0 < step < steps:
            last = {key: value for line in lines for key, value in line.items() if key not in ("step", "learning_rate")}
            notes.append(f"{name} " + " ".join(f"{key} {value:.3f}" for key, value in last.items()))
    progress("train " + ", ".join(jobs), done, total, "; ".join(notes))


def _train(text: str, parent: int, processes: int = 1) -> None:
    def stop_with_parent(*_: object) -> None:
        # A killed parent cannot tell its children; one that trained on would race with the run that is started next.
        if os.getppid() != parent:
            raise SystemExit("the process that started this training is gone")

    with ends_by_itself:
        stop_with_parent()  # the next training may have been in the queue already
        if processes == 1:
            Trainer(configs.from_dict(TrainConfig, yaml.safe_load(text))).train(stop_with_parent)
        else:
            _train_together(text, processes, stop_with_parent)


def _train_together(text: str, processes: int, check: Callable[[], None]) -> None:
    """The same on several processes, by torchrun.

    Raises:
        AsrkdError: a process failed, with the end of what they said.
    """
    with tempfile.TemporaryDirectory(prefix="asrkd-train-") as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        with open(folder / "log", "w", encoding="utf-8") as log:
            running = subprocess.Popen(
                [*command, "-m", "asrkd", "train", str(folder / "config.yaml")],
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            try:
                while running.poll() is None:
                    check()
                    time.sleep(0.5)
            finally:
                # torchrun ends its processes when it is ended itself.
                running.terminate()
                running.wait()
        if running.returncode:
            said = texts.lines(texts.read(folder / "log"))
            # Their own line, else what looks like a reason, else the last that was said.
            reasons = (
                [line for line in said if line.startswith("asrkd: ")]
                or [line for line in said if "rror" in line]
                or said[-1:]
            )
            why = reasons[0].removeprefix("asrkd: ") if reasons else "it said nothing"
            raise AsrkdError(f"a training of {processes} processes failed: {why}")
