"""Checks every shard of a store against its manifest and plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrkd import fingerprint
from asrkd.errors import AsrkdError, MismatchError, StoreError
from asrkd.store.delete import deleted_ids
from asrkd.store.entries import read_entries
from asrkd.store.plan import is_planned
from asrkd.store.reader import Store
from asrkd.store.repeated_ids import RepeatedIds, id_hashes
from asrkd.store.rows import rows_of_table
from asrkd.store.schema import CODEBOOKS, UNIT_KEY, quarantine_name, shard_name, shard_schema
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import POSTERIORS


def verify(root: str) -> list[str]:
    """All `problems` of a store; none means that it is whole."""
    return list(problems(root))


def problems(root: str, progress: Callable[[int, int, float, int], None] | None = None) -> Iterator[str]:
    """Problems of a store, one line each, as they are found; a unit is in memory at a time.

    `progress` is called with the shards so far and in all, the seconds of their audio, and the bytes of their columns.

    Checked: the inventory file and codebooks; of each shard its schema, identity, unit number and the checksum of every page; of each row
    the frame law, ids in range, finite log-probabilities, mass at most 1, and statistics that match the targets; over all
    rows their order in the plan, utterances twice or not planned, and planned ones that are neither
    in shards nor in quarantine nor deleted.
    """
    try:
        store = Store.open(root)
    except MismatchError as error:
        yield str(error)
        return
    yield from _codebook_problems(store)
    has_plan = is_planned(store.files)
    total, seconds, num_bytes = len(store.units()), 0.0, 0
    with RepeatedIds() as ids:
        for number, unit in enumerate(store.walk(), 1):
            # Of a shard that cannot be read, the utterances are those of the plan.
            found: list[str] = []
            durations: list[float] = []
            try:
                yield from _unit_problems(store, unit, found, durations, has_plan=has_plan)
                num_bytes += _num_bytes(store, unit)
            except AsrkdError as error:
                yield f"{shard_name(unit)}: {error}"
                found = _planned(store, unit) if has_plan else found
            ids.add(found)
            seconds += sum(durations)
            if progress:
                progress(number, total, seconds, num_bytes)
        if len(hashes := ids.hashes()):
            yield from _repeated(store, hashes, has_plan=has_plan)
    if has_plan:
        missing = set(range(int(store.plan.get("num_units", 0)))) - set(store.units())
        yield from (f"{shard_name(unit)} is not there" for unit in sorted(missing))


def _num_bytes(store: Store, unit: int) -> int:
    """Of a shard's columns, by its footer."""
    footer = store.metadata(unit)
    groups = map(footer.row_group, range(footer.num_row_groups))
    return sum(group.column(number).total_compressed_size for group in groups for number in range(group.num_columns))


def _unit_problems(store: Store, unit: int, ids: list[str], durations: list[float], *, has_plan: bool) -> Iterator[str]:
    """Problems of a shard; the ids and durations of its rows are added to the lists."""
    name = shard_name(unit)
    planned = [cut["id"] for cut in store.cuts(unit)] if has_plan else []
    yield from _shard_problems(store, unit)
    for row in _rows(store, unit):
        ids.append(row["id"])
        durations.append(row["duration"])
        yield from (f"{name}: {problem}" for problem in _row_problems(store, row))
    if planned:
        bad = [entry["id"] for entry in read_entries(store.files, quarantine_name(unit), "id")]
        yield from _plan_problems(name, ids, planned, {*bad, *deleted_ids(store.files, unit)})


def _repeated(store: Store, hashes: NDArray[np.bytes_], *, has_plan: bool) -> Iterator[str]:
    """The utterances with these hashes, where they occur a second time."""
    seen: set[str] = set()
    for unit in store.walk():
        try:
            ids = store.column(unit, "id").to_pylist()
        except AsrkdError:
            ids = _planned(store, unit) if has_plan else []
        at = np.minimum(np.searchsorted(hashes, id_hashes(ids)), len(hashes) - 1)
        for number in np.flatnonzero(hashes[at] == id_hashes(ids)):
            if ids[number] in seen:
                yield f"{shard_name(unit)}: utterance {ids[number]!r} occurs twice"
            seen.add(ids[number])


def _planned(store: Store, unit: int) -> list[str]:
    """The planned ids of a unit; none where the plan cannot be read, which is said elsewhere."""
    try:
        return [cut["id"] for cut in store.cuts(unit)]
    except AsrkdError:
        return []


def _codebook_problems(store: Store) -> list[str]:
    if not store.identity.codebooks_fingerprint:
        return []
    data = store.files.read_or_none(CODEBOOKS)
    if data is None:
        return [f"{CODEBOOKS} is not there"]
    same = fingerprint.of_bytes(data) == store.identity.codebooks_fingerprint
    return [] if same else [f"{CODEBOOKS} is not the one that the store was planned with"]


def _shard_problems(store: Store, unit: int) -> list[str]:
    footer = store.metadata(unit)
    found = []
    stored = (footer.metadata or {}).get(UNIT_KEY, b"").decode()
    if stored != str(unit):
        found.append(f"{shard_name(unit)} is unit {stored or 'unknown'} under another name")
    schema = footer.schema.to_arrow_schema().remove_metadata()
    expected = shard_schema(store.identity)
    if not schema.equals(expected):
        other = [
            field.name for field in expected if field.name not in schema.names or schema.field(field.name) != field
        ]
        found.append(f"{shard_name(unit)} has another schema ({', '.join(other) or 'more columns'})")
    return found


def _rows(store: Store, unit: int) -> Iterator[dict[str, Any]]:
    """All rows with all columns, so that every page's checksum is compared."""
    for group in range(store.metadata(unit).num_row_groups):
        try:
            yield from rows_of_table(store.read_row_group(unit, group))
        except StoreError as error:
            damaged = [name for name in shard_schema(store.identity).names if not _readable(store, unit, group, name)]
            raise StoreError(
                f"row group {group} is damaged in {', '.join(damaged) or 'an unknown column'} ({error})"
            ) from None


def _readable(store: Store, unit: int, group: int, column: str) -> bool:
    try:
        store.read_row_group(unit, group, [column])
    except StoreError:
        return False
    return True


def _row_problems(store: Store, row: dict[str, Any]) -> list[str]:
    what = f"utterance {row['id']!r}"
    try:
        store.identity.frame_law.check(row["num_samples"], row["num_frames"], what=what)
        if row["alignment"] is not None and len(row["alignment"]) != row["num_frames"]:
            return [f"{what} has an alignment of {len(row['alignment'])} frames instead of {row['num_frames']}"]
        for name, layout in store.identity.layouts.items():
            if name != POSTERIORS and any(row[column] is not None for column in layout.columns):
                store.stream(name, [row])
        if POSTERIORS not in store.identity.streams:
            return []
        targets = store.targets(row)
    except AsrkdError as error:
        return [str(error) if what in str(error) else f"{what}: {error}"]
    return [f"{what} {problem}" for problem in _target_problems(targets, row["kept_mass"])]


def _target_problems(targets: SparseTargets, kept_mass: float | None) -> list[str]:
    found = []
    if len(targets.ids) and not 0 <= int(targets.ids.min()) <= int(targets.ids.max()) < targets.num_classes:
        found.append(f"has a class id outside 0..{targets.num_classes - 1}")
    if not bool((targets.log_probs <= 1e-6).all()):
        found.append("has log-probabilities that are NaN or above 0")
    rows = np.repeat(np.arange(targets.num_frames), targets.counts.numpy())
    mass = np.bincount(rows, np.exp(targets.log_probs.numpy().astype(np.float64)), targets.num_frames)
    if (mass > 1.001).any():
        found.append(f"has a frame of mass {mass.max():.4f}, above 1")
    kept = 1.0 - float(targets.missing.double().mean()) if targets.num_frames else 0.0
    if kept_mass is not None and abs(kept - kept_mass) > 1e-4:
        found.append(f"says that {kept_mass:.4f} of the mass is kept, but its targets hold {kept:.4f}")
    return found


def _plan_problems(name: str, ids: list[str], planned: list[str], left_out: set[str]) -> list[str]:
    wanted = [key for key in planned if key not in left_out]
    stored, expected = set(ids), set(wanted)
    missing, extra = [key for key in wanted if key not in stored], [key for key in ids if key not in expected]
    found = [f"{name}: utterance {key!r} is planned but not stored" for key in missing]
    found += [f"{name}: utterance {key!r} is stored but not planned" for key in extra]
    if not found and ids != wanted and len(stored) == len(ids):
        found.append(f"{name}: its rows are not in the order of the plan")
    return found
