"""What a corpus will cost, from labeling to a student's epochs: a short timed sample of it, scaled up."""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.where import Where
from asrkd.errors import ConfigError, CorpusError
from asrkd.labeling.crew import ALONE, Crew, one_thread
from asrkd.labeling.plan import plan
from asrkd.labeling.worker import UnitResult
from asrkd.store import Store
from asrkd.store.identity import Identity
from asrkd.store.index import GROUP_COLUMNS, SHARD, columns_of
from asrkd.store.inspect import column_bytes

# The sample is drawn from this many cuts at the corpus's beginning: a corpus may be too large to be read for it.
_POOL = 20_000
# The share of the sample that is labeled before the clock starts: processes start, kernels are chosen.
_WARM_UP = 0.2


@dataclass(frozen=True)
class Fleet:
    """What is assumed of the machines; each device is taken to be as fast as the one that was measured, and never to wait or be lost.

    Attributes:
        nodes, devices_per_node: that label.
        student_rtfx: seconds of audio that one device trains a student on in a second (`asrkd train --dry-run` tells); None if unknown.
        student_devices: that train it.
    """

    nodes: int = 1
    devices_per_node: int = 1
    student_rtfx: float | None = None
    student_devices: int = 1

    def __post_init__(self) -> None:
        for name in ("nodes", "devices_per_node", "student_devices"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.student_rtfx is not None and not self.student_rtfx > 0:
            raise ConfigError(f"student_rtfx is {self.student_rtfx}, but must be above 0")


@dataclass(frozen=True)
class Estimate:
    """What a number of hours of audio cost.

    Attributes:
        hours: of audio, as asked.
        sample_seconds: measured: audio that was labeled for it, after the warm-up.
        rtfx: measured: seconds of audio in a second of one worker.
        worker_hours: that one worker needs for all.
        days: that the assumed devices need for all.
        utterances, frames: of the targets, if all is like the sample.
        num_bytes: of all shards.
        column_bytes: the same by column; `footers` is what is not in a column.
        catalog_bytes: of the catalog.
        units: work units, each one shard.
        label_requests: reads of plans and puts of shards, by labeling; reads of audio come on top.
        epoch_requests: reads of row groups, by an epoch of a student: targets, and what is embedded.
        epoch_days: of the student on its assumed devices; None if its speed is unknown.
        epoch_bytes_per_second: that all readers of that epoch need together; None likewise.
    """

    hours: float
    sample_seconds: float
    rtfx: float
    worker_hours: float
    days: float
    utterances: float
    frames: float
    num_bytes: float
    column_bytes: dict[str, float]
    catalog_bytes: float
    units: int
    label_requests: float
    epoch_requests: float
    epoch_days: float | None
    epoch_bytes_per_second: float | None


def estimate(
    cuts: Sequence[str],
    *,
    hours: float,
    teacher: str,
    embed: str,
    codec: str | None = None,
    autocast: str = "",
    compile: bool = False,
    unit_hours: float = 1.0,
    where: Sequence[Where] = (),
    sample_minutes: float = 5.0,
    crew: Crew = ALONE,
    fleet: Fleet = Fleet(),  # noqa: B008  it does not change
    seed: int = 0,
) -> Estimate:
    """Label a random sample of a corpus on this machine, and scale what it took up to `hours`.

    Small shards cost more bytes than large ones, so the bytes are rather too many.

    Args:
        cuts, teacher, codec, embed, autocast, compile, unit_hours, where: as `asrkd.labeling.plan.plan`.
        hours: of audio to be labeled.
        sample_minutes: of audio to label for the estimate.
        crew: one worker, whose time is measured.
        fleet: what is assumed of the machines.
        seed: of the sample.

    Raises:
        ConfigError: hours or minutes that are not above 0, or more than one worker.
        CorpusError: too few usable cuts for a sample.
    """
    for name, value in (("hours", hours), ("sample_minutes", sample_minutes)):
        if not value > 0:
            raise ConfigError(f"{name} is {value}, but must be above 0")
    if crew.workers != 1:
        raise ConfigError(f"workers is {crew.workers}, but the time of one worker is measured; divide by yours")
    chosen = _sample(cuts, where, sample_minutes * 60, random.Random(seed))
    with tempfile.TemporaryDirectory(prefix="asrkd-estimate-") as folder:
        manifest = Path(folder) / "cuts.jsonl"
        manifest.write_text("".join(json.dumps(cut) + "\n" for cut in chosen), encoding="utf-8")
        seconds = sum(cut["duration"] for cut in chosen)
        store = plan(
            str(manifest), f"{folder}/store", teacher=teacher, codec=codec, embed=embed, autocast=autocast, compile=compile,
            unit_hours=seconds * _WARM_UP / 3600,
        )  # fmt: skip
        results, elapsed = _timed(store, crew)
        labeled = sum(result.seconds for result in results[1:])
        if not labeled or elapsed <= 0:
            raise CorpusError(
                f"of {len(chosen)} sampled cuts too few can be labeled for an estimate; the first reason: "
                f"{next((why for result in results for _, why in result.quarantined), 'the sample is one unit')}"
            )
        facts = _facts(store)
    times, rtfx = hours * 3600 / labeled, labeled / elapsed
    stored = sum(result.num_bytes for result in results[1:])
    utterances, units = facts.utterances * times, math.ceil(hours / unit_hours)
    columns = {name: size * times for name, size in facts.column_bytes.items()}
    reads = 1 + (embed != "none")
    speed = fleet.student_rtfx and fleet.student_rtfx * fleet.student_devices
    return Estimate(
        hours=hours,
        sample_seconds=labeled,
        rtfx=rtfx,
        worker_hours=hours / rtfx,
        days=hours / rtfx / (fleet.nodes * fleet.devices_per_node) / 24,
        utterances=utterances,
        frames=facts.frames * times,
        num_bytes=stored * times,
        column_bytes=columns | {"footers": stored * times - sum(columns.values())},
        catalog_bytes=_catalog_bytes(store.identity, units, utterances, utterances / facts.group_rows),
        units=units,
        label_requests=2.0 * units,
        epoch_requests=reads * utterances / facts.group_rows,
        epoch_days=hours / speed / 24 if speed else None,
        epoch_bytes_per_second=stored * times / (hours * 3600 / speed) if speed else None,
    )


@dataclass(frozen=True)
class _Facts:
    """Of the sample after the warm-up; `group_rows`: utterances of a row group that is full."""

    utterances: int
    frames: int
    group_rows: float
    column_bytes: dict[str, int]


def _facts(store: Store) -> _Facts:
    sizes: Counter[str] = Counter()
    utterances = frames = num_bytes = 0
    for unit in range(1, store.num_units):
        footer = store.metadata(unit)
        rows = store.column(unit, "num_frames").to_numpy()
        utterances, frames = utterances + len(rows), frames + int(rows.sum())
        sizes.update(column_bytes(footer))
        num_bytes += sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))
    bounds = store.identity.row_groups
    by_bytes = bounds.num_bytes * utterances / max(num_bytes, 1) if bounds.num_bytes else bounds.rows
    return _Facts(utterances, frames, max(1.0, min(bounds.rows, by_bytes)), dict(sizes))


def _catalog_bytes(identity: Identity, shards: int, utterances: float, groups: float) -> float:
    """By its format: numbers of fixed sizes for each shard, row group and utterance."""
    sizes = [
        sum(np.dtype(kind).itemsize for kind in columns.values()) for columns in (columns_of(identity), GROUP_COLUMNS)
    ]
    return SHARD.itemsize * shards + sizes[0] * utterances + sizes[1] * groups


def _timed(store: Store, crew: Crew) -> tuple[list[UnitResult], float]:
    """The results of all units, and the seconds that those but the first took."""
    with one_thread(), crew.labeler(store) as labeler:
        first = list(labeler.label([0]))
        began = time.monotonic()
        rest = list(labeler.label(range(1, store.num_units)))
        return first + rest, time.monotonic() - began


def _sample(cuts: Sequence[str], where: Sequence[Where], seconds: float, rng: random.Random) -> list[dict[str, Any]]:
    pool = [
        cut
        for name in cuts
        for cut in islice(iterate_json(name), _POOL // len(cuts))
        if "unreadable" not in cut and all(condition(cut) for condition in where)
    ]
    rng.shuffle(pool)
    chosen, total = [], 0.0
    for cut in pool:
        if total >= seconds:
            break
        chosen.append(cut)
        total += cut["duration"]
    if len(chosen) < 2:
        raise CorpusError(
            f"{', '.join(map(repr, cuts))} has {len(chosen)} usable cuts to sample, too few for an estimate"
        )
    return chosen
