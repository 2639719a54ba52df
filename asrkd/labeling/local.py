"""The local backend: the units of a store labeled by processes of this machine."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from asrkd.errors import AsrkdError, ConfigError, CorpusError
from asrkd.labeling.plan import check_teacher
from asrkd.labeling.status import quarantined
from asrkd.labeling.stop import leave_signals_to_the_parent
from asrkd.labeling.worker import READ_SECONDS, Labeler, UnitResult
from asrkd.store import Store
from asrkd.store.identity import Identity

Progress = Callable[[UnitResult, int, int], None]
# How often the parent looks whether its workers live.
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class RunSummary:
    """What a run did: units labeled by it, units found finished, seconds of audio labeled."""

    labeled: int
    found: int
    seconds: float


@dataclass(frozen=True)
class Crew:
    """Who labels on this machine.

    Attributes:
        workers: processes that run the teacher; on a CPU with one thread each, so that any number gives the same bytes.
        devices: of torch, which the workers take in turn.
        readers: processes of each worker that read audio and make features; 0 uses a thread, which no watchdog can end.
        read_seconds: that reading a batch may take, with reader processes.

    Raises:
        ConfigError: a value that cannot be.
    """

    workers: int = 1
    devices: Sequence[str] = ("cpu",)
    readers: int = 0
    read_seconds: float = READ_SECONDS

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers is {self.workers}, but must be at least 1")
        if self.readers < 0:
            raise ConfigError(f"readers is {self.readers}, but must be at least 0")
        if not self.read_seconds > 0:
            raise ConfigError(f"read_seconds is {self.read_seconds}, but must be above 0")
        for device in self.devices or [""]:
            try:
                torch.empty(0, device=device)
            except (RuntimeError, AssertionError) as error:
                reason = str(error).splitlines()[0]
                raise ConfigError(
                    f"device {device!r} cannot be used ({reason}); give cpu, or cuda:0 where torch sees a GPU"
                ) from None

    def labeler(self, root: str, identity: Identity, number: int = 0, **options: Any) -> Labeler:
        """The labeler of worker `number`, with its teacher loaded.

        Raises:
            MismatchError, TeacherError: it is not the store's, or cannot be loaded.
        """
        teacher = check_teacher(root, identity, self.devices[number % len(self.devices)])
        return Labeler(root, identity, teacher, readers=self.readers, read_seconds=self.read_seconds, **options)


ALONE = Crew()


def run(
    root: str, crew: Crew = ALONE, *, max_quarantined: float = 0.01, progress: Progress | None = None
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
    if not 0 <= max_quarantined <= 1:
        raise ConfigError(f"max_quarantined is {max_quarantined}, but must be a share from 0 to 1")
    store = Store.open(root)
    planned, num_cuts = int(store.manifest.plan["num_units"]), int(store.manifest.plan["num_cuts"])
    finished = store.units()
    for unit in finished:
        store.metadata(unit)  # of this identity, or MismatchError
    missing = sorted(set(range(planned)) - set(finished))
    bad = [entry for unit in finished for entry in quarantined(root, unit)]
    seconds = 0.0
    with closing(_results(root, store.identity, missing, crew)) as results:
        for number, result in enumerate(results, 1):
            seconds += result.seconds
            bad += result.quarantined
            if progress:
                progress(result, len(finished) + number, planned)
            check_share(bad, num_cuts, max_quarantined)
    check_share(bad, num_cuts, max_quarantined)
    return RunSummary(len(missing), len(finished), seconds)


def retry(root: str, crew: Crew = ALONE, *, progress: Progress | None = None) -> tuple[int, int]:
    """Label the finished units again that have cuts in quarantine: audio that was mended, or missing for a while, comes in.

    A unit is replaced as a whole, by what a first run would have made of the mended corpus.

    Returns:
        Cuts in quarantine before and after.

    Raises:
        MismatchError, CorpusError, AsrkdError: as `run`.
    """
    store = Store.open(root)
    counts = {unit: len(quarantined(root, unit)) for unit in store.units()}
    again = [unit for unit, count in counts.items() if count]
    left = 0
    with closing(_results(root, store.identity, again, crew)) as results:
        for number, result in enumerate(results, 1):
            left += len(result.quarantined)
            if progress:
                progress(result, number, len(again))
    return sum(counts.values()), left


def check_share(bad: list[tuple[str, str]], num_cuts: int, allowed: float) -> None:
    """Raise `CorpusError` if more cuts are bad than the allowed share."""
    if len(bad) > allowed * num_cuts:
        raise CorpusError(
            f"{len(bad)} of {num_cuts} cuts cannot be labeled, more than the share of {allowed} that is allowed; the first: "
            f"{bad[0][1]}. Mend the corpus and plan again, or raise --max-quarantined (all reasons: quarantine/ in the store)"
        )


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
        futures = [pool.submit(_work, root, identity, crew, number) for number in range(workers)]
        try:
            for _ in units:
                yield _next(done, futures)
            wait(futures)
        except BrokenProcessPool:
            raise AsrkdError(
                "a labeling process died (killed, or out of memory); finished units are kept. Run asrkd label run again, "
                "with fewer workers if memory was short"
            ) from None
        except BaseException:
            # A unit that is cut short leaves nothing behind; waiting for it could take longer than a scheduler waits.
            for child in set(multiprocessing.active_children()) - before:
                child.kill()
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


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums in the same order whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# Of a worker process: queues of units to do and of results, set once by its initializer (queues cannot be arguments of a task).
_queues: tuple[Any, Any] | None = None


def _start(todo: Any, done: Any) -> None:
    global _queues
    leave_signals_to_the_parent()
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
