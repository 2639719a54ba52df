"""Processes that multiprocessing spawns: starting them from any script, and the true reason when one ends too soon."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from types import FrameType

from asrkd.errors import ConfigError

# Of a spawned process in which a script without a main guard came to the place that starts processes.
_NO_GUARD = 97
_NO_GUARD_SAID = (
    "the script {!r} has no main guard, so each process that it starts would run it again from its beginning; put what it does under "
    "if __name__ == '__main__':"
)


def check_guard() -> None:
    """To be called before processes are started: ends one that is only here because it imports a script without a main guard.

    A spawned process imports the script that started it, which then runs from its beginning; Python's own error in this place fills the screen
    and comes from a process whose parent only sees that it died.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(_NO_GUARD)


@contextmanager
def starting() -> Iterator[None]:
    """Within the block processes can also be started by a script that was read from the standard input, which they could not import.

    Raises:
        ConfigError: the script that is running has no main guard.
    """
    check_guard()
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is not None and getattr(main, "__spec__", None) is None and _runs_when_imported(path):
        # What comes before the start of processes may already fail in a second run, and would hide the reason.
        raise ConfigError(_NO_GUARD_SAID.format(path))
    hidden = path is not None and getattr(main, "__spec__", None) is None and not os.path.exists(path)
    if hidden:
        del main.__file__
    try:
        yield
    finally:
        if hidden:
            main.__file__ = path


def _runs_when_imported(script: str) -> bool:
    """Whether the code of a script that is running now would run again in a process that imports the script."""
    try:
        source = Path(script).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None and not (
        frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__"
    ):
        frame = frame.f_back
    # Whoever names one of these guards the script in some way.
    return frame is not None and not any(sign in source for sign in ("__name__", "MainProcess", "parent_process"))


def leave_when_done(worker: int = 0) -> None:
    """Called in a child process: once its work is done and its finalizers have run, it ends without taking the interpreter down.

    The thread that feeds a queue is a daemon and may still hold tensors; freeing them while Python ends aborts the process, which the parent
    takes for the death of a worker.

    Args:
        worker: not used; what a DataLoader hands to its `worker_init_fn`.
    """

    def leave() -> None:
        if sys.exc_info()[0] is None:  # else the error is told first
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    Finalize(None, leave, exitpriority=-1_000)


def exit_code(process: BaseProcess, seconds: float = 5.0) -> int | None:
    """The exit code of a process that is about to end, as `multiprocessing` gives it; None if it still runs.

    Where two threads wait for a process, the system tells its code to one of them, and `join` returns in the other before the code is known.

    Args:
        process: that was started.
        seconds: to wait at most.
    """
    until = time.monotonic() + seconds
    process.join(seconds)
    while process.exitcode is None and time.monotonic() < until:
        time.sleep(0.01)
    return process.exitcode


def why_ended(children: Iterable[BaseProcess], *, name: str) -> str:
    """Why the first of some processes ended that did not end in order.

    Args:
        children: processes.
        name: what they are, such as `labeling`.
    """
    codes = [exit_code(child) for child in children]
    # A pool ends the others by SIGTERM.
    told = [code for code in codes if code not in (None, 0, -signal.SIGTERM)]
    return f"a {name} process {ended(told[0] if told else None)}"


def ended(code: int | None) -> str:
    """How a process ended, by its exit code."""
    if code == _NO_GUARD:
        script = getattr(sys.modules["__main__"], "__file__", None)
        return f"came to the start of processes while it imported its script: {_NO_GUARD_SAID.format(script)}"
    if code == -signal.SIGKILL:
        return "was killed, as the system does when memory is short"
    if code is not None and code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    return "died" if code is None else f"ended with exit code {code}, which its own message above explains"
