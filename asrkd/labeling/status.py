"""How far the labeling of a store has come, from its files alone."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from asrkd.errors import StoreError
from asrkd.store import Store
from asrkd.store.schema import unit_of

# Speed is that of the last hour.
_WINDOW_SECONDS = 3600.0


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
        hours, hours_done: of audio.
        num_bytes: of shards.
        rtfx: seconds of audio labeled in a second, over the last hour of work; None until two units are finished.
        eta_seconds: until all is done at this speed; None without one.
        leased: units that tasks of an array work on, the longest first: slow workers stand at the top.
        quarantine: (cut id, reason) of bad cuts.
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
    quarantine: list[tuple[str, str]]
    reasons: dict[str, int]


@dataclass(frozen=True)
class _Shard:
    utterances: int
    seconds: float
    num_bytes: int
    modified: float


@dataclass
class Watch:
    """Looks at a store again and again, and reads each shard once."""

    store: Store
    _shards: dict[int, _Shard] = field(default_factory=dict)

    def look(self) -> Status:
        """The state now.

        Raises:
            StoreError: there is no store.
        """
        store = Store.open(self.store.root)  # its plan may have grown
        self._read(store)
        shards = list(self._shards.values())
        hours, done = float(store.plan["hours"]), sum(shard.seconds for shard in shards) / 3600
        finished = len(shards) == store.num_units
        rtfx = _speed(shards, None if finished else time.time())
        bad = store.quarantine.of(store.quarantine.units())
        return Status(
            units=store.num_units,
            units_done=len(shards),
            cuts=store.num_cuts,
            utterances=sum(shard.utterances for shard in shards),
            hours=hours,
            hours_done=done,
            num_bytes=sum(shard.num_bytes for shard in shards),
            rtfx=rtfx,
            eta_seconds=None if finished or not rtfx else max(hours - done, 0.0) * 3600 / rtfx,
            leased=_leases(store),
            quarantine=bad,
            reasons=dict(Counter(_general(reason) for _, reason in bad).most_common()),
        )

    def _read(self, store: Store) -> None:
        files = {unit_of(one.name): one for one in store.files.list("shards", ".parquet")}
        facts = {unit: one for unit, one in files.items() if unit is not None}
        # A unit may have been labeled again, or be gone.
        known = {
            unit: one for unit, one in self._shards.items() if unit in facts and one.modified == facts[unit].modified
        }
        new = sorted(facts.keys() - known.keys())
        for unit in new:
            durations = store.column(unit, "duration").to_numpy()
            known[unit] = _Shard(len(durations), float(durations.sum()), facts[unit].size, facts[unit].modified)
        self._shards = known


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
        ("cuts_quarantined", len(found.quarantine), "Cuts that could not be labeled."),
    ):
        if value is not None:
            lines += [
                f"# HELP asrkd_label_{name} {what}",
                f"# TYPE asrkd_label_{name} gauge",
                f"asrkd_label_{name} {value:.10g}",
            ]
    return "\n".join(lines) + "\n"


def _speed(shards: Sequence[_Shard], now: float | None) -> float | None:
    """Seconds of audio a second since the first shard of the last hour; up to now where work goes on."""
    times = sorted(shard.modified for shard in shards)
    if len(times) < 2:
        return None
    recent = [time for time in times if time >= times[-1] - _WINDOW_SECONDS]
    start = recent[0] if len(recent) > 1 else times[-2]
    elapsed = max(times[-1], now or 0.0) - start
    return sum(shard.seconds for shard in shards if shard.modified > start) / elapsed if elapsed > 0 else None


def _leases(store: Store) -> list[Lease]:
    leases = []
    for one in store.files.list("leases", ".json"):
        unit = unit_of(one.name)
        if unit is None:
            continue
        try:
            content = json.loads(store.files.read(f"leases/{one.name}"))
        except StoreError:
            continue  # given up between two looks
        leases.append(Lease(unit, content["owner"], content["seconds"]))
    return sorted(leases, key=lambda lease: -lease.seconds)


def _general(reason: str) -> str:
    """A reason without names and numbers, by which reasons are counted."""
    return re.sub(r"\d+(\.\d+)?", "N", re.sub(r"'[^']*'", "'...'", reason))
