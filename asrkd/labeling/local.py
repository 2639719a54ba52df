"""The local backend: the units of a store labeled by processes of this machine."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import Any

import torch

from asrkd.errors import AsrkdError
from asrkd.labeling.job import ALONE, Crew, RunSummary, UnitProgress, finish, one_thread
from asrkd.labeling.plan import check_teacher
from asrkd.labeling.quarantine import quarantined, quarantined_units
from asrkd.labeling.stop import follow_the_parent
from asrkd.labeling.worker import UnitResult
from asrkd.processes import starting, why_ended
from asrkd.store import Store
from asrkd.store.files import remove_temporary
from asrkd.store.identity import Identity

# How often the parent looks whether its workers live.
_POLL_SECONDS = 0.5


def run(
    root: str, crew: Crew = ALONE, *, max_quarantined: float = 0.01, progress: UnitProgress | None = None
) -> RunSummary:
    """Label every unit of a store that has no shard yet.

    Args:
        root: the store, planned before.
        crew: who labels.
        max_quarantined: share of the planned cuts that may be bad before the job stops.
        progress: called after each unit with its result, the finished units and all units.

    Raises:
        MismatchError: the teacher, or a shard that is there, is not the one that the plan names.
        CorpusError: more bad cuts than `max_quarantined` allows.
        AsrkdError: a worker died.
    """
    return finish(
        root,
        lambda identity, units: _results(root, identity, units, crew),
        max_quarantined=max_quarantined,
        progress=progress,
    )


def retry(root: str, crew: Crew = ALONE, *, progress: UnitProgress | None = None) -> tuple[int, int]:
    """Label the finished units again that have cuts in quarantine: audio that was mended, or missing for a while, comes in.

    A unit is replaced as a whole, by what a first run would have made of the mended corpus.

    Returns:
        Cuts in quarantine before and after.

    Raises:
        MismatchError, CorpusError, AsrkdError: as `run`.
    """
    store = Store.open(root)
    finished = set(store.units())
    counts = {unit: len(quarantined(root, unit)) for unit in quarantined_units(root) if unit in finished}
    again = [unit for unit, count in counts.items() if count]
    left = 0
    with closing(_results(root, store.identity, again, crew)) as results:
        for number, result in enumerate(results, 1):
            left += len(result.quarantined)
            if progress:
                progress(result, number, len(again))
    return sum(counts.values()), left


def _results(root: str, identity: Identity, units: list[int], crew: Crew) -> Generator[UnitResult, None, None]:
    if not units:
        return
    if crew.workers == 1:
        with one_thread(), crew.labeler(root, identity) as labeler:
            yield from labeler.label(units)
        return
    before = set(multiprocessing.active_children())
    check_teacher(root, identity)  # so that a wrong teacher is told before processes are started
    context = multiprocessing.get_context("spawn")
    todo, done = context.Queue(), context.Queue()
    workers = min(crew.workers, len(units))
    for unit in [*units, *[None] * workers]:
        todo.put(unit)
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(todo, done)) as pool:
        with starting():
            futures = [pool.submit(_work, root, identity, crew, number) for number in range(workers)]
        started = set(multiprocessing.active_children()) - before
        try:
            for _ in units:
                yield _next(done, futures)
            wait(futures)
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
            remove_temporary(root, [child.pid for child in children if child.pid is not None])
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


def _work(root: str, identity: Identity, crew: Crew, number: int) -> None:
    """Label the units of the queue until it is empty."""
    if _queues is None:
        raise RuntimeError("worker was not initialised")
    todo, done = _queues
    with crew.labeler(root, identity, number) as labeler:
        for result in labeler.label(iter(todo.get, None)):
            done.put(result)
