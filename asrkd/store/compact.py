"""A copy of a store with fewer and larger shards."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable, Iterator

import numpy as np

from asrkd.errors import ConfigError, StoreError
from asrkd.store import manifest
from asrkd.store.catalog_writer import write_catalog
from asrkd.store.files import Files
from asrkd.store.plan import PlanTotals
from asrkd.store.reader import Store
from asrkd.store.rewrite import check_new
from asrkd.store.row_groups import DEFAULT
from asrkd.store.schema import CODEBOOKS
from asrkd.store.writer import write_shard


def compact(
    store: Store,
    out: str,
    *,
    shard_hours: float = 1.0,
    progress: Callable[[int, int, float], None] | None = None,
) -> int:
    """Copy a finished store, joining neighboring shards to at least `shard_hours` of audio each; rows keep their order.

    The copy has the row groups of new stores (`asrkd.store.row_groups`), whatever the store's are. Plan, quarantine and records of deletions are joined with the shards, so the copy verifies like the original. One new
    shard is held in memory at a time; the manifest is written last. `progress` is called with the shards copied and in all, and the seconds of their audio.

    Returns:
        The number of new shards.

    Raises:
        ConfigError: `shard_hours` is not above 0.
        StoreError: the store is not finished, or `out` is a store already.
    """
    if not shard_hours > 0:
        raise ConfigError(f"shard_hours is {shard_hours}, but must be above 0")
    new = Files(out)
    check_new(new, "compact")
    unfinished = set(range(store.num_units)) - set(store.units())
    if unfinished:
        raise StoreError(
            f"store {store.root!r} is not finished: {len(unfinished)} work units have no shard (first: {min(unfinished)}); the "
            "copy could not be continued. Run asrkd label run first"
        )
    identity = dataclasses.replace(store.identity, row_groups=DEFAULT)
    totals, groups = PlanTotals.read(store.files), []
    count, copied, seconds = 0, 0, 0.0
    in_all = len(store.units())
    for count, units in enumerate(_groups(store, shard_hours), 1):
        for folder, suffix in (("plan", "jsonl.gz"), ("quarantine", "jsonl"), ("deleted", "jsonl")):
            _join(
                store.files,
                new,
                [f"{folder}/part-{unit:05d}.{suffix}" for unit in units],
                f"{folder}/part-{count - 1:05d}.{suffix}",
            )
        groups.append(units[0])
        rows = [row for unit in store.walk(units) for row in store.unit_rows(unit)]
        write_shard(new, count - 1, rows, identity)
        copied, seconds = copied + len(units), seconds + sum(row["duration"] for row in rows)
        if progress:
            progress(copied, in_all, seconds)
    for name in (CODEBOOKS, manifest.TOKENIZER):
        store.files.copy(name, new)
    if groups and len(totals.cuts) >= store.num_units:
        parts = (values[: store.num_units] for values in (totals.cuts, totals.seconds))
        PlanTotals.of(*(np.add.reduceat(values, groups) for values in parts)).write(new)
    plan = dict(store.plan) | {"num_units": count}
    write_catalog(Store(new, identity, plan))
    manifest.create(new, identity, plan)
    return count


def _groups(store: Store, shard_hours: float) -> Iterator[list[int]]:
    """Neighboring units of at least this many hours; what is left at the end goes to the last group."""
    ready: list[int] = []
    group: list[int] = []
    hours = 0.0
    for unit in store.walk():
        group.append(unit)
        hours += float(store.column(unit, "duration").to_numpy().sum()) / 3600
        if hours >= shard_hours:
            if ready:
                yield ready
            ready, group, hours = group, [], 0.0
    if ready or group:
        yield ready + group


def _join(files: Files, new: Files, names: list[str], joined: str) -> None:
    """One file of the lines of several, those that are there."""
    parts = [part for part in map(files.read_or_none, names) if part is not None]
    if not parts:
        return
    packed = joined.endswith(".gz")
    data = b"".join(gzip.decompress(part) if packed else part for part in parts)
    new.write(joined, gzip.compress(data, mtime=0) if packed else data)
