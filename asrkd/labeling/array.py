"""The array backend: one task of many that share a store and nothing else (Slurm arrays, Kubernetes indexed jobs)."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from asrkd.errors import ConfigError
from asrkd.labeling.leases import Leases
from asrkd.labeling.local import RunSummary, check_share, one_thread
from asrkd.labeling.plan import check_teacher
from asrkd.labeling.status import quarantined
from asrkd.labeling.worker import UnitResult, label_unit
from asrkd.store import Store
from asrkd.store.files import exists
from asrkd.store.schema import shard_name

Progress = Callable[[UnitResult, int, int], None]


def work(
    root: str,
    *,
    index: int,
    count: int,
    lease_seconds: float = 120.0,
    max_quarantined: float = 0.01,
    progress: Progress | None = None,
) -> RunSummary:
    """Label units until every unit of the store is finished, by this task or by others.

    A task begins with its own share, every `count`-th unit from `index` on, then helps with the others' from their ends, and waits
    for what others hold, to take over the units of those that die.

    Raises:
        ConfigError: an index outside 0..count-1, or a lease that is not above 0.
        MismatchError, CorpusError, TeacherError, StoreError: as `asrkd.labeling.local.run`.
    """
    if not 0 <= index < count:
        raise ConfigError(f"index is {index}, but must be within 0..{count - 1}, the tasks of {count}")
    if not lease_seconds > 0:
        raise ConfigError(f"lease_seconds is {lease_seconds}, but must be above 0")
    store = Store.open(root)
    planned, num_cuts = int(store.manifest.plan["num_units"]), int(store.manifest.plan["num_cuts"])
    order = _order(planned, index, count)
    leases = Leases(root, lease_seconds)
    found = len(store.units())
    labeled, seconds = 0, 0.0
    bad: list[tuple[str, str]] = []
    with one_thread():
        teacher = None
        while True:
            finished = set(store.units())
            waiting = [unit for unit in order if unit not in finished]
            if not waiting:
                break
            idle = True
            for unit in waiting:
                if exists(root, shard_name(unit)) or not leases.claim(unit):
                    continue
                idle = False
                with leases.keep(unit):
                    if exists(root, shard_name(unit)):  # committed between the look and the claim
                        continue
                    teacher = teacher or check_teacher(root, store.identity)
                    result = label_unit(root, unit, store.identity, teacher, may_commit=partial(leases.holds, unit))
                if result is None:
                    continue
                labeled, seconds = labeled + 1, seconds + result.seconds
                bad += result.quarantined
                if progress:
                    progress(result, len(store.units()), planned)
                check_share(bad, num_cuts, max_quarantined)
            if idle:
                time.sleep(min(lease_seconds / 4, 5.0))
    for unit in store.units():
        store.metadata(unit)  # of this identity, or MismatchError
    check_share([entry for unit in store.units() for entry in quarantined(root, unit)], num_cuts, max_quarantined)
    return RunSummary(labeled, found, seconds)


def _order(planned: int, index: int, count: int) -> list[int]:
    """Own units first, then those of the next tasks, each from its end, where its owner comes last."""
    shares = [list(range((index + shift) % count, planned, count)) for shift in range(count)]
    return shares[0] + [unit for share in shares[1:] for unit in reversed(share)]
