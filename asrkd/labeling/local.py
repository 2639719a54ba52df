"""The local backend: the units of a store labeled by processes of this machine."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch

from asrkd.errors import AsrkdError
from asrkd.labeling.crew import ALONE, Crew, one_thread
from asrkd.labeling.stop import follow_the_parent
from asrkd.labeling.teacher_identity import check_teacher
from asrkd.labeling.worker import UnitResult
from asrkd.processes import starting, why_ended
from asrkd.store import Store

# How often the parent looks whether its workers live.
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Local:
    """Worker processes of this machine; a crew of one works in this process.

    Attributes:
        store: planned before.
        crew: who labels.
    """

    store: Store
    crew: Crew = ALONE

    def label(self, units: Sequence[int]) -> Generator[UnitResult, None, None]:
        """As `Backend.label`."""
        store, crew = self.store, self.crew
        if crew.workers == 1:
            with one_thread(), crew.labeler(store) as labeler:
                yield from labeler.label(units)
            return
        before = set(multiprocessing.active_children())
        check_teacher(store)  # so that a wrong teacher is told before processes are started
        context = multiprocessing.get_context("spawn")
        todo, done = context.Queue(), context.Queue()
        workers = min(crew.workers, len(units))
        for unit in [*units, *[None] * workers]:
            todo.put(unit)
        with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(todo, done)) as pool:
            with starting():
                futures = [pool.submit(_work, store, crew, number) for number in range(workers)]
            started = set(multiprocessing.active_children()) - before
            try:
                for _ in units:
                    yield _next(done, futures)
                wait(futures)
                # Its thread would else let go of the queue's semaphores while Python ends, too late to tell the resource tracker.
                todo.close()
                todo.join_thread()
            except BrokenProcessPool:
                why = why_ended(started, name="labeling")
                raise AsrkdError(
                    f"{why}. Finished units are kept; run again, with fewer workers if memory was short"
                ) from None
            except BaseException:
                # A unit that is cut short leaves nothing behind; waiting for it could take longer than a scheduler waits.
                children = set(multiprocessing.active_children()) - before
                for child in children:
                    child.kill()
                for child in children:
                    child.join()
                store.files.remove_temporary([child.pid for child in children if child.pid is not None])
                raise
            finally:
                todo.cancel_join_thread()


def _next(done: Any, futures: Sequence[Any]) -> UnitResult:
    """The next result; the error of a worker that failed."""
    while True:
        try:
            return done.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            for future in futures:
                if future.done():
                    future.result()


# Of a worker process: queues of units to do and of results, set once by its initializer (queues cannot be arguments of a task).
_queues: tuple[Any, Any] | None = None


def _start(todo: Any, done: Any) -> None:
    global _queues
    follow_the_parent()
    torch.set_num_threads(1)
    _queues = (todo, done)


def _work(store: Store, crew: Crew, number: int) -> None:
    """Label the units of the queue until it is empty."""
    if _queues is None:
        raise RuntimeError("worker was not initialised")
    todo, done = _queues
    with crew.labeler(store, number) as labeler:
        for result in labeler.label(iter(todo.get, None)):
            done.put(result)
