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
from typing import Any

# After the signal, and after that: when it is looked whether its exception is on its way up.
_AGAIN_SECONDS = (0.05, 1.0)


class Terminated(BaseException):
    """The process was asked to end. Not an `Exception`: nothing on the way up should take it for an error of its own."""


@contextmanager
def terminated_by_signal(*, unless: bool = False) -> Iterator[None]:
    """Within the block SIGTERM raises `Terminated` in the main thread. Nothing changes in another thread, or with `unless`.

    What was asked for comes out of the block, also where it does not get there by itself. Where a `__del__` or a callback of a library is interrupted,
    Python prints the exception and drops it, and some libraries swallow any; it is raised again after that, and so is Ctrl-C's where Python dropped it.
    Where it is followed by an error, as torch's writer fails when half a file is written, that error is not told.
    """
    if unless or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        # A second signal while the first is handled would interrupt the cleaning up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise_again(Terminated)
        raise Terminated

    def again(number: int, frame: FrameType | None) -> None:
        if asked[-1] is KeyboardInterrupt:
            # Only once, for the block may take it, and only what Python dropped comes here.
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        elif _is_handled(sys.exc_info()[1], Terminated):
            return
        raise asked[-1]

    def raise_again(kind: type[BaseException]) -> None:
        asked.append(kind)
        alarms.append((signal.signal(signal.SIGALRM, again), signal.setitimer(signal.ITIMER_REAL, *_AGAIN_SECONDS)))

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if issubclass(what.exc_type, (Terminated, KeyboardInterrupt)):
            raise_again(what.exc_type)
        else:
            hook(what)

    asked: list[type[BaseException]] = []
    alarms: list[tuple[Any, tuple[float, float]]] = []  # what there was before
    before, hook = signal.signal(signal.SIGTERM, stop), sys.unraisablehook
    sys.unraisablehook = dropped
    try:
        yield
        if Terminated in asked:
            raise Terminated
    except Exception as error:
        if Terminated in asked:
            raise Terminated from error
        if _is_handled(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    finally:
        for handler, (seconds, interval) in alarms[:1]:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, seconds, interval)
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)


def _is_handled(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether an error is of a kind, or was raised while one of that kind was on its way up; not where that one was caught before."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__context__
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
