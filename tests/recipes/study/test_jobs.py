"""What a training's config says is done in a study as from the command line."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from training_helpers import settings

from asrkd import config as configs
from asrkd.training.metrics import read_metrics
from asrkd_recipes.study.jobs import train_all


@pytest.mark.slow
def test_a_training_of_one_process_decodes_the_dev_set_and_its_warnings_are_told(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = settings(
        corpus,
        tmp_path / "run",
        schedule=[{"steps": 4, "mixture": {"labeled": 1}}],
        eval_steps=2,
        dev_decoding={"every": 1, "insertion_penalty": -2.0},
    )
    train_all({"student": job}, 1, lambda *_: None)
    assert [line["step"] for line in read_metrics(tmp_path / "run") if "dev_wer" in line] == [2, 4]
    # Four updates are too few for any.
    assert "student: the result does not fit its own training set" in caplog.text


SCRIPT = """from pathlib import Path
from asrkd import config
from asrkd.cli.command import run_command
from asrkd.training.config import TrainConfig
from asrkd_recipes.study.jobs import train_all
import click

@click.command()
@click.argument("folder", type=Path)
def main(folder):
    jobs = {name: config.load(TrainConfig, folder / name) for name in ("long", "short")}
    train_all(jobs, 2, lambda *_: None)

if __name__ == "__main__":
    run_command(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_study_that_is_stopped_ends_its_trainings(corpus: Path, tmp_path: Path, signal_number: int) -> None:
    """Also where another process waits for its next training, and so holds the queue's lock."""
    for name, steps in (("long", 1_000_000), ("short", 1)):
        schedule = [{"steps": steps, "mixture": {"labeled": 1}}]
        job = settings(corpus, tmp_path / "runs" / name, schedule=schedule, eval_steps=10)
        (tmp_path / name).write_text(configs.to_yaml(job))
    (tmp_path / "script.py").write_text(SCRIPT)
    # A shell's background jobs, which tests may be among, ignore Ctrl-C.
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    children: list[psutil.Process] = []
    try:
        metrics, short = tmp_path / "runs/long/metrics.jsonl", tmp_path / "runs/short/final.pt"
        while not (short.exists() and metrics.exists() and metrics.stat().st_size):
            assert process.poll() is None, process.communicate()[1].decode()
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal_number)
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 128 + signal_number and said.startswith("stopped"), said
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive
    finally:
        # A training that does not end would take its core from all tests that follow.
        for one in (process, *children):
            if one.is_running() if isinstance(one, psutil.Process) else one.poll() is None:
                one.kill()
