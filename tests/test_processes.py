"""Scripts that start processes: with and without a main guard, from a file and from the standard input."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from asrkd.labeling.plan import plan
from asrkd.processes import ended, exit_code, why_ended
from asrkd.store import Store

RUN = "from asrkd.labeling.crew import Crew\nfrom asrkd.labeling.job import run\nfrom asrkd.labeling.local import Local\nfrom asrkd.store import Store\n"
RECIPE = """import click
from asrkd.cli import run_command
from asrkd.labeling.crew import Crew
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.store import Store

@click.command()
@click.argument("store")
def recipe(store):
    run(Local(Store.open(store), Crew(workers=2)))
"""


@pytest.fixture
def store(corpus: Path, tmp_path: Path) -> str:
    plan(str(corpus / "unlabeled.jsonl.gz"), str(tmp_path / "store"), embed="audio", unit_hours=0.003)
    return str(tmp_path / "store")


@pytest.mark.slow
@pytest.mark.parametrize("crew", ["workers=2", "readers=1"])
def test_a_script_without_a_main_guard_is_told_so(store: str, tmp_path: Path, crew: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"{RUN}run(Local(Store.open({store!r}), Crew({crew})))\n")
    found = subprocess.run([sys.executable, script], capture_output=True, text=True)
    last = found.stderr.strip().splitlines()[-1]
    assert found.returncode == 1 and "script.py' has no main guard" in last and "died" not in last
    # Nothing of the process that could not start.
    assert found.stderr.count("Traceback") == 1 and "freeze_support" not in found.stderr


@pytest.mark.slow
def test_what_a_script_does_first_does_not_hide_that_it_has_no_guard(corpus: Path, tmp_path: Path) -> None:
    """Run a second time, it would stop at the store that it has made itself."""
    script, root = tmp_path / "script.py", str(tmp_path / "new")
    script.write_text(
        f"from asrkd.labeling.plan import plan\n{RUN}plan({str(corpus / 'unlabeled.jsonl.gz')!r}, {root!r}, embed='audio')\n"
        f"run(Local(Store.open({root!r}), Crew(workers=2)))\n"
    )
    found = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert found.returncode == 1 and "has no main guard" in found.stderr.strip().splitlines()[-1]
    assert "is a store already" not in found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("guarded", [False, True])
def test_a_recipe_is_one_line_without_a_guard_and_runs_with_one(store: str, tmp_path: Path, guarded: bool) -> None:
    script = tmp_path / "recipe.py"
    call = "run_command(recipe)\n"
    script.write_text(RECIPE + (f"if __name__ == '__main__':\n    {call}" if guarded else call))
    found = subprocess.run([sys.executable, script, store], capture_output=True, text=True)
    if guarded:
        assert found.returncode == 0, found.stderr
        assert len(Store.open(store).units()) == Store.open(store).plan["num_units"]
    else:
        assert found.returncode == 1 and len(found.stderr.strip().splitlines()) == 1
        assert "recipe.py' has no main guard" in found.stderr


@pytest.mark.slow
def test_a_script_from_the_standard_input_starts_processes(store: str) -> None:
    script = f"{RUN}run(Local(Store.open({store!r}), Crew(workers=2, readers=1)))\n"
    found = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True)
    assert found.returncode == 0 and found.stderr == ""
    assert len(Store.open(store).units()) == Store.open(store).plan["num_units"]


CHILD = """import atexit, multiprocessing, os, sys
from multiprocessing.util import Finalize
from asrkd.processes import leave_when_done

def work(error):
    leave_when_done()
    atexit.register(os._exit, 7)  # what the end of the interpreter would come to
    Finalize(None, print, ("finalized",), exitpriority=0)
    if error:
        raise ValueError("told")

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=work, args=("error" in sys.argv,))
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["well", "error"])
def test_a_child_leaves_when_its_work_is_done_and_tells_its_errors(ending: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(CHILD)
    found = subprocess.run([sys.executable, tmp_path / "script.py", ending], capture_output=True, text=True)
    assert (found.returncode == 0) == (ending == "well")
    assert ("ValueError: told" in found.stderr) == (ending == "error")
    assert found.stdout == "finalized\n"


def test_how_a_process_ended() -> None:
    assert "memory is short" in ended(-signal.SIGKILL)
    assert ended(-signal.SIGSEGV) == "crashed (SIGSEGV)"
    assert "exit code 3" in ended(3)


@pytest.mark.slow
def test_why_a_process_ended_is_known_where_another_thread_waits_for_it_too() -> None:
    """The thread that waits for a pool's processes has the code, and is held up before it says so."""
    child = multiprocessing.get_context("spawn").Process(target=signal.raise_signal, args=(signal.SIGKILL,))
    child.start()
    reaped = threading.Event()

    def reap() -> None:
        _, status = os.waitpid(child.pid, 0)
        reaped.set()
        time.sleep(0.5)
        child._popen.returncode = os.waitstatus_to_exitcode(status)

    thread = threading.Thread(target=reap)
    thread.start()
    assert reaped.wait(60)
    assert "was killed" in why_ended([child], name="writing")
    thread.join()


@pytest.mark.slow
def test_a_process_that_still_runs_has_no_exit_code() -> None:
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    child.start()
    began = time.monotonic()
    assert exit_code(child, 0.2) is None and time.monotonic() - began < 10
    child.terminate()
    assert exit_code(child, 60.0) == -signal.SIGTERM
