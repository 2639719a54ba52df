"""The array backend: one task of many that share a store and nothing else (Slurm arrays, Kubernetes indexed jobs)."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from asrkd.errors import ConfigError
from asrkd.labeling.crew import ALONE, Crew, one_thread
from asrkd.labeling.leases import Leases
from asrkd.labeling.worker import UnitResult
from asrkd.store import Store
from asrkd.store.schema import shard_name

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class ArrayBackend:
    """A task of an array, which ends when every unit is finished, by this task or by others.

    It begins with its own share, every `count`-th unit from `index` on, then helps with the others' from their ends, and waits for
    what others hold, to take over the units of those that die.

    Attributes:
        store: planned before.
        index, count: which of how many tasks this is, from 0; None where nobody knows how many. They only say where a task begins, so that
            indexes may have gaps, begin anywhere and come twice (a list, a task that is submitted again).
        crew: who labels; one worker, for there are as many tasks as one wants.
        lease_seconds: without a heartbeat after which other tasks take a unit over.

    Raises:
        ConfigError: an index below 0, a count below 1, a lease that is not above 0, or more than one worker.
    """

    store: Store
    index: int
    count: int | None
    crew: Crew = ALONE
    lease_seconds: float = 120.0

    def __post_init__(self) -> None:
        if self.index < 0:
            raise ConfigError(f"index is {self.index}, but must be at least 0: the place of this task among the tasks")
        if self.count is not None and self.count < 1:
            raise ConfigError(f"count is {self.count}, but must be at least 1: the number of tasks")
        if not 0 < self.lease_seconds < math.inf:
            raise ConfigError(f"lease_seconds is {self.lease_seconds}, but must be a number above 0")
        if self.crew.workers != 1:
            raise ConfigError(f"workers is {self.crew.workers}, but a task of an array is one worker; start more tasks")

    def label(self, units: Sequence[int]) -> Generator[UnitResult, None, None]:
        """As `Backend.label`; a shard that another task wrote is compared with the store."""
        wanted = set(units)
        waiting = [unit for unit in _order(self.store.num_units, self.index, self.count) if unit in wanted]
        leases = Leases(self.store.files, self.lease_seconds)
        with one_thread(), leases.beating(), self.crew.labeler(self.store, may_commit=leases.holds) as labeler:
            while waiting:
                labeled: set[int] = set()
                for result in labeler.label(_claimed(self.store, leases, waiting)):
                    leases.release(result.unit)
                    labeled.add(result.unit)
                    yield result
                leases.release_all()  # of units that another task committed
                waiting = [unit for unit in waiting if unit not in labeled]
                finished = {*self.store.units()} & {*waiting}
                yield from self._finished_elsewhere(sorted(finished))
                waiting = [unit for unit in waiting if unit not in finished]
                if waiting and not labeled:
                    time.sleep(min(self.lease_seconds / 4, 5.0))

    def _finished_elsewhere(self, units: Sequence[int]) -> Iterator[UnitResult]:
        self.store.check(units)
        with_bad = {*self.store.quarantine.units()} if units else set()
        for unit in units:
            bad = tuple(self.store.quarantine.of([unit])) if unit in with_bad else ()
            yield UnitResult(unit, stored=0, quarantined=bad, seconds=0.0, num_bytes=0, labeled_here=False)


def _claimed(store: Store, leases: Leases, units: Sequence[int]) -> Iterator[int]:
    """Those of the units that nobody holds or has finished, claimed when they are asked for."""
    for unit in units:
        if store.files.exists(shard_name(unit)) or not leases.claim(unit):
            continue
        if store.files.exists(shard_name(unit)):  # committed between the look and the claim
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
