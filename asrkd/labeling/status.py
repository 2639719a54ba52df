"""How far the labeling of a store has come."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from asrkd.store import Store
from asrkd.store.files import exists, filesystem, read_bytes
from asrkd.store.schema import shard_name


@dataclass(frozen=True)
class Status:
    """Units and hours planned and done, utterances stored, bytes of shards, cuts in quarantine with reasons."""

    units: int
    units_done: int
    cuts: int
    utterances: int
    hours: float
    hours_done: float
    num_bytes: int
    quarantine: list[tuple[str, str]]


def quarantined(root: str, unit: int) -> list[tuple[str, str]]:
    """(cut id, reason) of a unit's bad cuts."""
    name = f"quarantine/part-{unit:05d}.jsonl"
    if not exists(root, name):
        return []
    entries = [json.loads(line) for line in read_bytes(root, name).decode().splitlines()]
    return [(entry["id"], entry["reason"]) for entry in entries]


def status(root: str) -> Status:
    """The state of a store's labeling, from its files alone.

    Raises:
        StoreError: there is no store.
    """
    store = Store.open(root)
    system, base = filesystem(root)
    units = store.units()
    sizes = [system.get_file_info(f"{base}/{shard_name(unit)}").size for unit in units]
    index = store.index(["duration"]) if units else None
    plan = store.manifest.plan
    return Status(
        units=int(plan["num_units"]),
        units_done=len(units),
        cuts=int(plan["num_cuts"]),
        utterances=len(index) if index is not None else 0,
        hours=float(plan["hours"]),
        hours_done=float(np.sum(index["duration"].to_numpy())) / 3600 if index is not None else 0.0,
        num_bytes=int(sum(sizes)),
        quarantine=[entry for unit in units for entry in quarantined(root, unit)],
    )
