"""The cuts of a unit that could not be labeled, each with the reason: `quarantine/part-*.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from asrkd.store import Store
from asrkd.store.files import exists, list_files, read_bytes, remove, write_atomic
from asrkd.store.plan import read_cuts
from asrkd.store.schema import quarantine_name, unit_of

_UNKNOWN = "not in the shard of the task that finished the unit, whose reason was lost; run asrkd label retry"


def quarantined(root: str, unit: int) -> list[tuple[str, str]]:
    """(cut id, reason) of a unit's bad cuts."""
    name = quarantine_name(unit)
    if not exists(root, name):
        return []
    entries = [json.loads(line) for line in read_bytes(root, name).decode().splitlines()]
    return [(entry["id"], entry["reason"]) for entry in entries]


def quarantined_units(root: str) -> list[int]:
    """The units that have bad cuts, in order."""
    found = (unit_of(one.name) for one in list_files(root, "quarantine", ".jsonl"))
    return sorted(unit for unit in found if unit is not None)


def write(root: str, unit: int, entries: Iterable[tuple[str, str]]) -> None:
    """Replace the bad cuts of a unit; without any, there is no file."""
    lines = [json.dumps({"id": key, "reason": why}, ensure_ascii=False) + "\n" for key, why in entries]
    if lines:
        write_atomic(root, quarantine_name(unit), "".join(lines).encode())
    elif exists(root, quarantine_name(unit)):
        remove(root, quarantine_name(unit))


def agree(root: str, unit: int, reasons: Mapping[str, str]) -> None:
    """Let the quarantine of a finished unit be what its shard has not, after two tasks labeled it with different luck.

    Args:
        reasons: what is known of bad cuts, by id.
    """
    stored = set(Store.open(root).column(unit, "id").to_pylist())
    missing = [cut["id"] for cut in read_cuts(root, unit) if cut["id"] not in stored]
    write(root, unit, [(key, reasons.get(key, _UNKNOWN)) for key in sorted(missing)])
