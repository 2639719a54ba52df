"""The array backend: one task of many that share a store and nothing else (Slurm arrays, Kubernetes indexed jobs)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

from asrkd.errors import ConfigError
from asrkd.labeling.job import ALONE, Crew, RunSummary, UnitProgress, check_share, one_thread
from asrkd.labeling.leases import Leases
from asrkd.labeling.quarantine import quarantined, quarantined_units
from asrkd.processes import check_guard
from asrkd.store import Store
from asrkd.store.files import exists
from asrkd.store.schema import shard_name

_GOLDEN = (math.sqrt(5) - 1) / 2


def work(
    root: str,
    crew: Crew = ALONE,
    *,
    index: int,
    count: int | None,
    lease_seconds: float = 120.0,
    max_quarantined: float = 0.01,
    progress: UnitProgress | None = None,
) -> RunSummary:
    """Label units until every unit of the store is finished, by this task or by others.

    A task begins with its own share, every `count`-th unit from `index` on, then helps with the others' from their ends, and waits
    for what others hold, to take over the units of those that die.

    Args:
        root: the store, planned before.
        crew: who labels; one worker, for there are as many tasks as one wants.
        index, count: which of how many tasks this is, from 0; None where nobody knows how many. They only say where a task begins, so that
            indexes may have gaps, begin anywhere and come twice (a list, a task that is submitted again).
        lease_seconds: without a sign of life after which other tasks take a unit over.
        max_quarantined, progress: as `asrkd.labeling.job.finish`.

    Raises:
        ConfigError: an index below 0, a count below 1, a lease that is not above 0, or more than one worker.
        MismatchError, CorpusError, ModelError, StoreError: as `asrkd.labeling.job.finish`.
    """
    check_guard()
    if index < 0:
        raise ConfigError(f"index is {index}, but must be at least 0: the place of this task among the tasks")
    if count is not None and count < 1:
        raise ConfigError(f"count is {count}, but must be at least 1: the number of tasks")
    if not 0 < lease_seconds < math.inf:
        raise ConfigError(f"lease_seconds is {lease_seconds}, but must be a number above 0")
    if crew.workers != 1:
        raise ConfigError(f"workers is {crew.workers}, but a task of an array is one worker; start more tasks")
    store = Store.open(root)
    planned, num_cuts = int(store.manifest.plan["num_units"]), int(store.manifest.plan["num_cuts"])
    order = _order(planned, index, count)
    leases = Leases(root, lease_seconds)
    found = len(store.units())
    labeled, seconds = 0, 0.0
    bad: list[tuple[str, str]] = []
    waiting = _unfinished(store, order)
    if waiting:
        with one_thread(), leases.beating(), crew.labeler(root, store.identity, may_commit=leases.holds) as labeler:
            while waiting:
                before = labeled
                for result in labeler.label(_claimed(root, leases, waiting)):
                    leases.release(result.unit)
                    labeled, seconds = labeled + 1, seconds + result.seconds
                    bad += result.quarantined
                    if progress:
                        progress(result, len(store.units()), planned)
                    check_share(bad, num_cuts, max_quarantined)
                leases.release_all()  # of units that another task committed
                waiting = _unfinished(store, order)
                if waiting and labeled == before:
                    time.sleep(min(lease_seconds / 4, 5.0))
    store.check(store.units())
    check_share(
        [entry for unit in quarantined_units(root) for entry in quarantined(root, unit)], num_cuts, max_quarantined
    )
    return RunSummary(labeled, found, seconds)


def _unfinished(store: Store, order: Sequence[int]) -> list[int]:
    finished = set(store.units())
    return [unit for unit in order if unit not in finished]


def _claimed(root: str, leases: Leases, units: Sequence[int]) -> Iterator[int]:
    """Those of the units that nobody holds or has finished, claimed when they are asked for."""
    for unit in units:
        if exists(root, shard_name(unit)) or not leases.claim(unit):
            continue
        if exists(root, shard_name(unit)):  # committed between the look and the claim
            leases.release(unit)
            continue
        yield unit


def _order(planned: int, index: int, count: int | None) -> list[int]:
    """Own units first, then those of the next tasks, each from its end, where its owner comes last.

    Where nobody knows the number of tasks, each begins somewhere else (multiples of the golden ratio are spread evenly, however many there are).
    """
    if count is None:
        start = int(index * _GOLDEN % 1 * planned)
        return [*range(start, planned), *range(start)]
    # Tasks beyond the number of units have no share of their own.
    firsts = sorted(range(min(count, planned)), key=lambda first: (first - index) % count)
    shares = [list(range(first, planned, count)) for first in firsts]
    if firsts and firsts[0] == index % count:
        return shares[0] + [unit for share in shares[1:] for unit in reversed(share)]
    return [unit for share in shares for unit in reversed(share)]
