"""How far the labeling of a store has come, from its directory listings, its quarantine and the totals of its plan."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asrkd.store import Store
from asrkd.store.plan import PlanTotals
from asrkd.store.schema import unit_of
from asrkd.store.threads import read_ahead

# Speed is that of the last hour.
_WINDOW_SECONDS = 3600.0
# At most this many cuts in quarantine are named; `quarantine/` has all of them.
MOST_NAMED = 1000
# Kinds of reasons that are distinguished.
_MOST_KINDS = 1000


@dataclass(frozen=True)
class Lease:
    """A unit that a task of an array works on, and for how many seconds, by its own clock."""

    unit: int
    owner: str
    seconds: float


@dataclass(frozen=True)
class Status:
    """The state of a store's labeling.

    Attributes:
        units, units_done: work units planned and finished.
        cuts, utterances: planned and stored.
        hours, hours_done: of audio, planned and of the finished units.
        num_bytes: of shards.
        rtfx: seconds of audio labeled in a second, over the last hour of work; None until two units are finished.
        eta_seconds: until all is done at this speed; None without one.
        leased: units that tasks of an array work on, the longest first: slow workers are at the top.
        num_quarantined: bad cuts.
        quarantine: (cut id, reason) of the first 1,000 of them.
        reasons: number of bad cuts by reason, without what differs from cut to cut.
    """

    units: int
    units_done: int
    cuts: int
    utterances: int
    hours: float
    hours_done: float
    num_bytes: int
    rtfx: float | None
    eta_seconds: float | None
    leased: list[Lease]
    num_quarantined: int
    quarantine: list[tuple[str, str]]
    reasons: dict[str, int]


@dataclass(frozen=True)
class _Shards:
    """Of each finished unit: its number, bytes, time of the last change, utterances, and seconds of audio."""

    units: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    modified: NDArray[np.float64]
    utterances: NDArray[np.int64]
    seconds: NDArray[np.float64]


@dataclass
class Watch:
    """Looks at a store again and again. A shard is read only if its unit has no totals in the plan (or other ones, after a deletion), and once."""

    store: Store
    # (time of the last change, utterances, seconds) of the units that were read.
    _read: dict[int, tuple[float, int, float]] = field(default_factory=dict)

    def look(self) -> Status:
        """The state now.

        Raises:
            StoreError: there is no store.
        """
        store = Store.open(self.store.root)  # its plan may have grown
        bad = _Bad()
        for unit, entries in store.quarantine.each(store.quarantine.units()):
            bad.add(unit, entries)
        shards = self._shards(store, bad.counts)
        hours, done = float(store.plan["hours"]), float(shards.seconds.sum()) / 3600
        finished = len(shards.units) == store.num_units
        rtfx = _speed(shards, None if finished else time.time())
        return Status(
            units=store.num_units,
            units_done=len(shards.units),
            cuts=store.num_cuts,
            utterances=int(shards.utterances.sum()),
            hours=hours,
            hours_done=done,
            num_bytes=int(shards.num_bytes.sum()),
            rtfx=rtfx,
            eta_seconds=None if finished or not rtfx else max(hours - done, 0.0) * 3600 / rtfx,
            leased=_leases(store),
            num_quarantined=sum(bad.counts.values()),
            quarantine=bad.named,
            reasons=dict(bad.kinds.most_common()),
        )

    def _shards(self, store: Store, bad: Mapping[int, int]) -> _Shards:
        files = [
            (unit, one) for one in store.files.list("shards", ".parquet") if (unit := unit_of(one.name)) is not None
        ]
        units = np.array([unit for unit, _ in files], dtype=np.int64)
        num_bytes = np.array([one.size for _, one in files], dtype=np.int64)
        modified = np.array([one.modified for _, one in files])
        totals, changed = (
            PlanTotals.read(store.files),
            {unit_of(one.name) for one in store.files.list("deleted", ".jsonl")},
        )
        # An earlier version planned without totals, and a deletion leaves them as they were.
        unknown = np.array([unit >= len(totals.cuts) or unit in changed for unit in units.tolist()], dtype=bool)
        self._read_again(store, dict(zip(units[unknown].tolist(), modified[unknown].tolist(), strict=True)))
        utterances, seconds = np.zeros(len(units), dtype=np.int64), np.zeros(len(units))
        known = units[~unknown]
        utterances[~unknown] = totals.cuts[known] - np.array(
            [bad.get(unit, 0) for unit in known.tolist()], dtype=np.int64
        )
        seconds[~unknown] = totals.seconds[known]
        for place in np.flatnonzero(unknown):
            _, utterances[place], seconds[place] = self._read[int(units[place])]
        return _Shards(units, num_bytes, modified, utterances, seconds)

    def _read_again(self, store: Store, modified: Mapping[int, float]) -> None:
        """Read the units that were not read since their shard changed; forget those that are not there."""

        def read(unit: int) -> tuple[int, tuple[float, int, float]]:
            for _ in store.walk([unit]):
                durations = store.column(unit, "duration").to_numpy()
            return unit, (modified[unit], len(durations), float(durations.sum()))

        self._read = {unit: one for unit, one in self._read.items() if modified.get(unit) == one[0]}
        self._read.update(read_ahead(read, sorted(modified.keys() - self._read.keys())))


class _Bad:
    """The quarantine of a store, in memory that does not grow with it but for a number of each unit."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.kinds: Counter[str] = Counter()
        self.named: list[tuple[str, str]] = []

    def add(self, unit: int, entries: list[tuple[str, str]]) -> None:
        self.counts[unit] = len(entries)
        self.named += entries[: MOST_NAMED - len(self.named)]
        for _, reason in entries:
            kind = _general(reason)
            self.kinds[kind if kind in self.kinds or len(self.kinds) < _MOST_KINDS else "other reasons"] += 1


def status(store: Store) -> Status:
    """The state of a store's labeling; to look again and again, see `Watch`.

    Raises:
        StoreError: there is no store.
    """
    return Watch(store).look()


def prometheus(found: Status) -> str:
    """The figures of a status in Prometheus' text format."""
    lines = []
    for name, value, what in (
        ("units", found.units, "Work units planned."),
        ("units_done", found.units_done, "Work units finished."),
        ("units_leased", len(found.leased), "Work units that array tasks work on."),
        ("utterances", found.utterances, "Utterances stored."),
        ("audio_seconds", found.hours * 3600, "Audio planned."),
        ("audio_seconds_done", found.hours_done * 3600, "Audio labeled."),
        ("bytes", found.num_bytes, "Bytes of shards."),
        ("rtfx", found.rtfx, "Seconds of audio labeled in a second."),
        ("eta_seconds", found.eta_seconds, "Until all is done."),
        ("cuts_quarantined", found.num_quarantined, "Cuts that could not be labeled."),
    ):
        if value is not None:
            lines += [
                f"# HELP asrkd_label_{name} {what}",
                f"# TYPE asrkd_label_{name} gauge",
                f"asrkd_label_{name} {value:.10g}",
            ]
    return "\n".join(lines) + "\n"


def _speed(shards: _Shards, now: float | None) -> float | None:
    """Seconds of audio a second since the first shard of the last hour; up to now where work continues."""
    times = np.sort(shards.modified)
    if len(times) < 2:
        return None
    recent = times[times >= times[-1] - _WINDOW_SECONDS]
    start = float(recent[0] if len(recent) > 1 else times[-2])
    elapsed = max(float(times[-1]), now or 0.0) - start
    return float(shards.seconds[shards.modified > start].sum()) / elapsed if elapsed > 0 else None


def _leases(store: Store) -> list[Lease]:
    leases = []
    for one in store.files.list("leases", ".json"):
        unit = unit_of(one.name)
        if unit is None:
            continue
        data = store.files.read_or_none(f"leases/{one.name}")
        if data is None:
            continue  # given up meanwhile
        content = json.loads(data)
        leases.append(Lease(unit, content["owner"], content["seconds"]))
    return sorted(leases, key=lambda lease: -lease.seconds)


def _general(reason: str) -> str:
    """A reason without names and numbers, by which reasons are counted."""
    return re.sub(r"\d+(\.\d+)?", "N", re.sub(r"'[^']*'", "'...'", reason))
