"""The local backend: the units of a store labeled by processes of this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch

from asrkd.errors import AsrkdError, ConfigError, CorpusError
from asrkd.labeling.plan import check_teacher
from asrkd.labeling.status import quarantined
from asrkd.labeling.stop import leave_signals_to_the_parent
from asrkd.labeling.worker import UnitResult, label_unit
from asrkd.store import Store
from asrkd.store.identity import Identity
from asrkd.teachers import Teacher


@dataclass(frozen=True)
class RunSummary:
    """What a run did: units labeled by it, units found finished, seconds of audio labeled."""

    labeled: int
    found: int
    seconds: float


def run(
    root: str,
    *,
    workers: int = 1,
    max_quarantined: float = 0.01,
    progress: Callable[[UnitResult, int, int], None] | None = None,
) -> RunSummary:
    """Label every unit of a store that has no shard yet.

    A worker is one process with one thread, so that the bytes are the same for any number of workers.

    Args:
        root: the store, planned before.
        workers: processes.
        max_quarantined: share of the planned cuts that may be bad before the job stops.
        progress: called after each unit with its result, the finished units and all units.

    Raises:
        MismatchError: the teacher, or a shard that is there, is not the one that the plan names.
        CorpusError: more bad cuts than `max_quarantined` allows.
        AsrkdError: a worker died.
    """
    if workers < 1:
        raise ConfigError(f"workers is {workers}, but must be at least 1")
    if not 0 <= max_quarantined <= 1:
        raise ConfigError(f"max_quarantined is {max_quarantined}, but must be a share from 0 to 1")
    store = Store.open(root)
    planned, num_cuts = int(store.manifest.plan["num_units"]), int(store.manifest.plan["num_cuts"])
    finished = store.units()
    for unit in finished:
        store.metadata(unit)  # of this identity, or MismatchError
    missing = [unit for unit in range(planned) if unit not in set(finished)]
    bad = [entry for unit in finished for entry in quarantined(root, unit)]
    seconds = 0.0
    with closing(_results(root, store.identity, missing, workers)) as results:
        for number, result in enumerate(results, 1):
            seconds += result.seconds
            bad += result.quarantined
            if progress:
                progress(result, len(finished) + number, planned)
            check_share(bad, num_cuts, max_quarantined)
    check_share(bad, num_cuts, max_quarantined)
    return RunSummary(len(missing), len(finished), seconds)


def retry(
    root: str, *, workers: int = 1, progress: Callable[[UnitResult, int, int], None] | None = None
) -> tuple[int, int]:
    """Label the finished units again that have cuts in quarantine: audio that was mended, or missing for a while, comes in.

    A unit is replaced as a whole, by what a first run would have made of the mended corpus.

    Returns:
        Cuts in quarantine before and after.

    Raises:
        MismatchError, CorpusError, AsrkdError: as `run`.
    """
    if workers < 1:
        raise ConfigError(f"workers is {workers}, but must be at least 1")
    store = Store.open(root)
    counts = {unit: len(quarantined(root, unit)) for unit in store.units()}
    again = [unit for unit, count in counts.items() if count]
    left = 0
    with closing(_results(root, store.identity, again, workers)) as results:
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


def _results(root: str, identity: Identity, units: list[int], workers: int) -> Generator[UnitResult, None, None]:
    if not units:
        return
    if workers == 1:
        with one_thread():
            teacher = check_teacher(root, identity)
            for unit in units:
                yield _always(label_unit(root, unit, identity, teacher))
        return
    before = set(multiprocessing.active_children())
    check_teacher(root, identity)  # so that a wrong teacher is told before processes are started
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(units)), context, initializer=_start, initargs=(root, identity)) as pool:
        futures = [pool.submit(_work, unit) for unit in units]
        try:
            for future in as_completed(futures):
                yield future.result()
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
            for future in futures:
                future.cancel()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums in the same order whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# Of a worker process: set once by its initializer.
_context: tuple[str, Identity, Teacher | None] | None = None


def _start(root: str, identity: Identity) -> None:
    global _context
    leave_signals_to_the_parent()
    torch.set_num_threads(1)
    _context = (root, identity, check_teacher(root, identity))


def _work(unit: int) -> UnitResult:
    if _context is None:
        raise RuntimeError("worker was not initialised")
    root, identity, teacher = _context
    return _always(label_unit(root, unit, identity, teacher))


def _always(result: UnitResult | None) -> UnitResult:
    """Without a lease nothing is given up."""
    if result is None:
        raise RuntimeError("a unit was given up that nobody else may work on")
    return result
