"""Calls that do not wait for each other, in processes that end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess

from asrkd.errors import AsrkdError
from asrkd.labeling.stop import Terminated, terminated_by_signal
from asrkd.processes import starting, why_ended

# Held in such a process by a call that ends by itself when the parent is gone, and has more to end than its process.
ends_by_itself = threading.Lock()


def run_together(
    calls: Mapping[str, tuple[Callable[..., None], tuple]],
    workers: int,
    show: Callable[[list[str]], None],
    kind: str,
    resume: str,
) -> None:
    """Run every call to its end, `workers` at a time.

    Args:
        calls: functions of modules, with their arguments, by name.
        workers: processes.
        show: takes the names of those that are not finished, every other second.
        kind: what a call is, for messages.
        resume: what to do when its process died, for messages.

    Raises:
        AsrkdError: a process died.
    """
    # Spawned processes, also for one worker: each call sees a fresh generator and one thread.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(calls)), context, initializer=_end_with_parent) as pool:
        before = set(multiprocessing.active_children())
        futures: dict[Future, str] = {}
        started: set[BaseProcess] = set()
        try:
            with starting():
                for name, (function, arguments) in calls.items():
                    futures[pool.submit(_call, function, arguments)] = name
                    started |= set(multiprocessing.active_children()) - before
            running = set(futures)
            while running:
                done, running = wait(running, timeout=2.0, return_when=FIRST_EXCEPTION)
                show([name for future, name in futures.items() if future in running])
                for future in done:
                    future.result()
        except BrokenProcessPool:
            raise AsrkdError(f"{why_ended(started, name=kind)}. {resume}") from None
        except (KeyboardInterrupt, Terminated):
            # Each ends at once; waiting for a training's last update could take hours.
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            raise
        finally:
            for future in futures:
                future.cancel()


def _call(function: Callable[..., None], arguments: tuple) -> None:
    try:
        with terminated_by_signal():
            function(*arguments)
    except Terminated:
        # The next call would not come: another worker, which was waiting for one when the same signal ended it, may have held the queue's lock.
        os._exit(128 + signal.SIGTERM)


def _end_with_parent() -> None:
    """A worker that waits for its next call does not notice that nobody will send one; this ends it. Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait_for_end() -> None:
        parent.join()
        with ends_by_itself:
            os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()
