"""Processes of a study end with it, and say why they died."""

from __future__ import annotations

import os
import runpy
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


# Each waits for the other, so they end only if they run at a time.
WRITE_PID = """
import os, time

(folder / name).write_text(str(os.getpid()))
while len(list(folder.iterdir())) < 2:
    time.sleep(0.05)
"""


@pytest.mark.slow
def test_calls_run_at_a_time_in_processes_of_their_own(tmp_path: Path) -> None:
    # A script by its path: processes of their own cannot import this module, which pytest imports from its file.
    script, folder = tmp_path / "write_pid.py", tmp_path / "pids"
    script.write_text(WRITE_PID)
    folder.mkdir()
    left: list[list[str]] = []
    calls = {name: (runpy.run_path, (str(script), {"folder": folder, "name": name})) for name in ("first", "second")}
    run_together(calls, 2, left.append, "writing", "Start again")
    pids = {int(file.read_text()) for file in folder.iterdir()}
    assert len(pids) == 2 and os.getpid() not in pids
    assert left[-1] == []


@pytest.mark.slow
def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(AsrkdError, match=r"writing.*killed.*\. Start again to write it$"):
        run_together(
            {"one": (signal.raise_signal, (signal.SIGKILL,))}, 1, lambda _: None, "writing", "Start again to write it"
        )


FAILS_OVER_ITS_END = """
import sys, time
from pathlib import Path
from asrkd_recipes.study.together import run_together

def touch(file):
    Path(file).touch()

def wait(file):
    touch(file)
    try:
        time.sleep(600)
    finally:
        time.sleep(3)  # until the pool has ended all its workers again
        raise RuntimeError("half a file is written")

if __name__ == "__main__":
    calls = {"long": (wait, (sys.argv[1],)), "short": (touch, (sys.argv[2],))}
    run_together(calls, 2, lambda _: None, "waiting", "Start again")
"""


# Ctrl-C while the second call is handed over.
STOPPED_AT_THE_START = """
import signal, sys, time
from pathlib import Path
from asrkd_recipes.study.together import run_together

def wait(file):
    Path(file).touch()
    time.sleep(600)

class Calls(dict):
    def items(self):
        for call in super().items():
            yield call
            while not Path(sys.argv[1]).exists():
                time.sleep(0.1)
            Path(sys.argv[2]).touch()
            time.sleep(600)

if __name__ == "__main__":
    run_together(Calls(long=(wait, (sys.argv[1],)), never=(wait, ("",))), 2, lambda _: None, "waiting", "Start again")
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [FAILS_OVER_ITS_END, STOPPED_AT_THE_START], ids=["over its end", "at the start"])
def test_a_stop_ends_all_processes(script: str, tmp_path: Path) -> None:
    """Also where a call fails over its end, and where others are still to be started."""
    (tmp_path / "script.py").write_text(script)
    began = [tmp_path / "long", tmp_path / "short"]
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", *began],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    children: list[psutil.Process] = []
    try:
        while not all(file.exists() for file in began):
            assert process.poll() is None
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == -signal.SIGINT
        assert psutil.wait_procs(children, timeout=30)[1] == []
    finally:
        for one in (process, *children):
            if one.is_running() if isinstance(one, psutil.Process) else one.poll() is None:
                one.kill()
