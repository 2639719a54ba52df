"""A labeling job: from the units of a store that have no shard yet to a tally of what was done, whoever labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from asrkd.errors import ConfigError, CorpusError
from asrkd.labeling.worker import UnitResult
from asrkd.processes import check_guard
from asrkd.store import Store
from asrkd.store.catalog_writer import knows_all, update_catalog, write_catalog


class Backend(Protocol):
    """Who runs the units of a store: `Local`, `RayCluster` or `ArrayBackend`."""

    @property
    def store(self) -> Store:
        """The store, planned before."""

    def label(self, units: Sequence[int]) -> Generator[UnitResult, None, None]:
        """Label units and give the result of each, in any order; of a unit that another task finished, too.

        Raises:
            MismatchError: the teacher is not the one that the plan names.
            ModelError, StoreError: it fails, or a shard cannot be written.
            AsrkdError: a worker died.
        """


@dataclass
class Tally:
    """What a job has done.

    Attributes:
        units, cuts: planned.
        found: units that were finished before, or by another task.
        labeled: units that this job labeled.
        seconds: of audio in these.
        num_bad: cuts in quarantine, of all finished units.
        first_reason: of the first of them.
    """

    units: int
    cuts: int
    found: int = 0
    labeled: int = 0
    seconds: float = 0.0
    num_bad: int = 0
    first_reason: str = ""
    _began: float = field(default_factory=time.monotonic)

    def add(self, result: UnitResult) -> None:
        """Count a unit."""
        self.labeled += result.labeled_here
        self.found += not result.labeled_here
        self.seconds += result.seconds
        self.add_bad(result.quarantined)

    def add_bad(self, bad: Sequence[tuple[str, str]]) -> None:
        """Count (cut id, reason) of bad cuts."""
        self.num_bad += len(bad)
        self.first_reason = self.first_reason or next((reason for _, reason in bad), "")

    @property
    def done(self) -> int:
        """Finished units."""
        return self.found + self.labeled

    @property
    def rtfx(self) -> float:
        """Seconds of audio in a second of this job."""
        return self.seconds / max(time.monotonic() - self._began, 1e-9)

    def check(self, allowed: float) -> None:
        """Raise `CorpusError` if more cuts are bad than the allowed share."""
        if self.num_bad > allowed * self.cuts:
            raise CorpusError(
                f"{self.num_bad} of {self.cuts} cuts cannot be labeled, more than the share of {allowed} that is allowed; the first: "
                f"{self.first_reason}. Fix the corpus and plan again, or raise --max-quarantined (all reasons: quarantine/ in the store)"
            )


UnitProgress = Callable[[Tally, UnitResult], None]


def run(backend: Backend, *, max_quarantined: float = 0.01, progress: UnitProgress | None = None) -> Tally:
    """Label every unit of a store that has no shard yet.

    Args:
        backend: who labels.
        max_quarantined: share of the planned cuts that may be bad before the job stops.
        progress: called after each unit.

    Raises:
        ConfigError: a share outside 0..1.
        MismatchError: a shard that is there is not the store's; or the teacher.
        CorpusError: more bad cuts than `max_quarantined` allows.
        AsrkdError: as `Backend.label`.
    """
    check_guard()
    if not 0 <= max_quarantined <= 1:
        raise ConfigError(f"max_quarantined is {max_quarantined}, but must be a share from 0 to 1")
    store = backend.store
    finished = store.units()
    store.check(finished)
    tally = Tally(store.num_units, store.num_cuts, found=len(finished))
    for _, bad in store.quarantine.each(sorted({*store.quarantine.units()} & {*finished})):
        tally.add_bad(bad)
    missing = sorted({*range(store.num_units)} - {*finished})
    # Of several tasks the one that finished last writes the catalog.
    is_last = not missing
    if missing:
        store.files.check_writable()
        with closing(backend.label(missing)) as results:
            for result in results:
                tally.add(result)
                if progress:
                    progress(tally, result)
                tally.check(max_quarantined)
                is_last = result.labeled_here
    tally.check(max_quarantined)
    if is_last and not knows_all(store):
        write_catalog(store, changed=())
    return tally


def retry(backend: Backend, *, progress: UnitProgress | None = None) -> tuple[int, int]:
    """Label the finished units again that have cuts in quarantine: audio that was fixed, or missing for a while, comes in.

    A unit is replaced as a whole, by what a first run would have made of the fixed corpus.

    Returns:
        Cuts in quarantine before and after.

    Raises:
        MismatchError, CorpusError, AsrkdError: as `run`.
    """
    store = backend.store
    finished = set(store.units())
    before, again = 0, []
    for unit, bad in store.quarantine.each(unit for unit in store.quarantine.units() if unit in finished):
        before += len(bad)
        again += [unit] if bad else []
    tally = Tally(len(again), store.num_cuts)
    if again:
        with closing(backend.label(again)) as results:
            for result in results:
                tally.add(result)
                if progress:
                    progress(tally, result)
    update_catalog(store, again)
    return before, tally.num_bad
