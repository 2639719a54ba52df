"""Takes utterances out of a store: only the shards that hold them are written anew, each whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Collection

import numpy as np

from asrkd.errors import StoreError
from asrkd.store.files import exists, read_bytes, write_atomic
from asrkd.store.reader import Store, table_rows
from asrkd.store.writer import write_shard


def delete(
    root: str, *, ids: Collection[str] = (), speakers: Collection[str] = (), dry_run: bool = False
) -> dict[int, list[str]]:
    """Delete utterances by id and by speaker; run again after a kill, it finishes.

    The ids that are gone stay in `deleted/part-*.jsonl`, by which `verify` knows that they are not missing. The plan is not
    changed: it still names the cut and its recording, but nothing of its audio, text or targets is left in the store's shards.

    Returns:
        The ids that are deleted, by work unit.

    Raises:
        StoreError: an id or a speaker that the store does not have, or a shard that cannot be written.
    """
    store = Store.open(root)
    index = store.index(["id", "speaker"])
    keys, voices = np.array(index["id"].to_pylist(), dtype=object), index["speaker"].to_pylist()
    units = index["unit"].to_numpy()
    ids, speakers = set(ids), set(speakers)
    absent = ids.difference(keys)
    if absent:
        absent.difference_update(key for unit in store.units() for key in deleted_ids(root, unit))
    unknown = [f"id {key!r}" for key in sorted(absent)]
    unknown += [f"speaker {name!r}" for name in sorted(speakers.difference(voices))]
    if unknown:
        raise StoreError(
            f"store {root!r} has no {unknown[0]} ({len(unknown)} names are unknown), so nothing was deleted; asrkd store head "
            "shows ids and speakers"
        )
    chosen = np.array([key in ids or voice in speakers for key, voice in zip(keys, voices, strict=True)], dtype=bool)
    found = {int(unit): list(keys[chosen & (units == unit)]) for unit in np.unique(units[chosen])}
    for unit, wanted in found.items() if not dry_run else ():
        # The record first: a shard without the rows and without the record would look damaged.
        record = sorted({*deleted_ids(root, unit), *wanted})
        lines = "".join(json.dumps({"id": key}, ensure_ascii=False) + "\n" for key in record)
        write_atomic(root, _record(unit), lines.encode())
        leaving = set(wanted)
        groups = range(store.metadata(unit).num_row_groups)
        rows = [row for group in groups for row in table_rows(store.read_row_group(unit, group))]
        write_shard(root, unit, [row for row in rows if row["id"] not in leaving], store.identity)
    return found


def deleted_ids(root: str, unit: int) -> list[str]:
    """Ids that were deleted from a work unit."""
    if not exists(root, _record(unit)):
        return []
    return [json.loads(line)["id"] for line in read_bytes(root, _record(unit)).decode().splitlines()]


def _record(unit: int) -> str:
    return f"deleted/part-{unit:05d}.jsonl"
