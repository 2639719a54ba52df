"""Trainings that do not wait for each other, in processes of one thread each."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol

import yaml

from asrkd import config as configs
from asrkd import text as texts
from asrkd.acoustic import TrainedModel
from asrkd.errors import AsrkdError, StoreError
from asrkd.labeling.stop import Terminated, terminated_by_signal
from asrkd.processes import check_guard, starting, why_ended
from asrkd.training.config import TrainConfig
from asrkd.training.inputs import inputs
from asrkd.training.metrics import read_metrics
from asrkd.training.run_folder import check_resumable
from asrkd.training.trainer import Trainer

_log = logging.getLogger(__name__)


class StageProgress(Protocol):
    """Shows how far a stage has come: `asrkd.cli.progress.ProgressBar.show`."""

    def __call__(
        self, label: str, done: int, total: int | None, note: str = "", *, seconds: float | None = None
    ) -> None: ...


# Held by a process while it trains.
_training = threading.Lock()


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
    # Spawned processes, also for one worker: each training sees a fresh generator and one thread.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(waiting)), context, initializer=_end_with_parent) as pool:
        counts = processes or {}
        before = set(multiprocessing.active_children())
        with starting():
            futures = {
                pool.submit(_train, configs.to_yaml(job), os.getpid(), counts.get(name, 1)): name
                for name, job in waiting.items()
            }
        started = set(multiprocessing.active_children()) - before
        running = set(futures)
        try:
            while running:
                done, running = wait(running, timeout=2.0, return_when=FIRST_EXCEPTION)
                _show(waiting, progress)
                for future in done:
                    future.result()
        except BrokenProcessPool:
            raise AsrkdError(
                f"{why_ended(started, name='training')}. Start again to resume from its checkpoint"
            ) from None
        except (KeyboardInterrupt, Terminated):
            # Each ends at once, and resumes from its checkpoint; waiting for its last update could take hours.
            for child in started:
                if child.pid is not None:
                    os.kill(child.pid, signal.SIGTERM)
            raise
        finally:
            for future in futures:
                future.cancel()
    for name, job in waiting.items():
        for warning in TrainedModel.read(job.run).facts.get("warnings", []):
            _log.warning("%s: %s", name, warning)


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

    with _training, terminated_by_signal():
        stop_with_parent()  # the next training may have been in the queue already
        if processes == 1:
            Trainer(configs.from_dict(TrainConfig, yaml.safe_load(text))).train(stop_with_parent)
        else:
            _train_together(text, processes, stop_with_parent)


def _end_with_parent() -> None:
    """A worker that waits for its next training does not notice that nobody will send one; this ends it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait_for_end() -> None:
        parent.join()
        with _training:  # which stops by itself, and what it started with it
            os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()


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
