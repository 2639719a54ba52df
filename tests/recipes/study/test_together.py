"""Processes of a study end with it, and say why they died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from asrkd.errors import AsrkdError
from asrkd_recipes.study.together import run_together

WAITING = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from asrkd_recipes.study.together import _end_with_parent

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_worker_that_waits_for_a_call_does_not_outlive_its_parent(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    with subprocess.Popen([sys.executable, tmp_path / "waiting.py"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = psutil.Process(int(process.stdout.readline()))
        assert worker.is_running()
        process.kill()
    assert psutil.wait_procs([worker], timeout=20)[1] == []


def write_pid(folder: Path, name: str) -> None:
    """Each waits for the other, so they end only if they run at a time."""
    (folder / name).write_text(str(os.getpid()))
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.05)


def die(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_calls_run_at_a_time_in_processes_of_their_own(tmp_path: Path) -> None:
    left: list[list[str]] = []
    calls = {name: (write_pid, (tmp_path, name)) for name in ("first", "second")}
    run_together(calls, 2, left.append, "writing", "Start again")
    pids = {int(file.read_text()) for file in tmp_path.iterdir()}
    assert len(pids) == 2 and os.getpid() not in pids
    assert left[-1] == []


@pytest.mark.slow
def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(AsrkdError, match=r"writing.*killed.*\. Start again to write it$"):
        run_together({"one": (die, (tmp_path,))}, 1, lambda _: None, "writing", "Start again to write it")
