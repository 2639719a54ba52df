"""Pre-emption: SIGTERM as an exception, so that a job ends in order and within seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """The process was asked to end. Not an `Exception`: nothing on the way up should take it for an error of its own."""


@contextmanager
def terminated_by_signal(*, unless: bool = False) -> Iterator[None]:
    """Within the block SIGTERM raises `Terminated` in the main thread. Nothing changes in another thread, or with `unless`.

    What was asked for comes out of the block, also where it does not get there by itself. Where a `__del__` or a callback of a library is interrupted,
    Python prints the exception and drops it; it is raised again after that, and so is Ctrl-C's. Where it is followed by an error, as torch's writer
    fails when half a file is written, that error is not told; and a block that swallows `Terminated` ends with it.
    """
    if unless or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        # A second signal while the first is handled would interrupt the cleaning up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        asked.append(number)
        raise Terminated

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if not issubclass(what.exc_type, (Terminated, KeyboardInterrupt)):
            hook(what)
            return
        number = signal.SIGTERM if issubclass(what.exc_type, Terminated) else signal.SIGINT
        if number == signal.SIGTERM:
            signal.signal(signal.SIGTERM, stop)
        # Later: whatever is raised in here is dropped as well.
        again = threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, number))
        again.daemon = True
        again.start()
        waiting.append(again)

    waiting: list[threading.Timer] = []
    asked: list[int] = []
    before, hook = signal.signal(signal.SIGTERM, stop), sys.unraisablehook
    sys.unraisablehook = dropped
    try:
        yield
        if asked:
            raise Terminated
    except Exception as error:
        if asked:
            raise Terminated from error
        if _interrupted(error):
            raise KeyboardInterrupt from error
        raise
    finally:
        try:
            for again in waiting:
                again.cancel()
                again.join()
        finally:
            sys.unraisablehook = hook
            signal.signal(signal.SIGTERM, before)


def _interrupted(error: BaseException) -> bool:
    """Whether an error was raised while Ctrl-C was on its way up; not if something has taken that and went on."""
    while error.__context__ is not None:
        error = error.__context__
        if isinstance(error, KeyboardInterrupt):
            return True
    return False


def follow_the_parent() -> None:
    """For child processes of `multiprocessing`: signals are the parent's to handle, and without it there is nothing to do.

    Schedulers and terminals signal the whole group. A parent that is killed cannot end its children, which would wait for work for ever.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("follow_the_parent is for processes that multiprocessing started")

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="asrkd-parent", daemon=True).start()
