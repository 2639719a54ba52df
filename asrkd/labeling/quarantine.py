"""The cuts of a unit that could not be labeled, each with the reason: `quarantine/part-*.jsonl`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asrkd.store import Store
from asrkd.store.entries import read_entries, write_entries
from asrkd.store.files import exists, list_files, remove
from asrkd.store.plan import read_cuts
from asrkd.store.schema import quarantine_name, unit_of

_UNKNOWN = "not in the shard of the task that finished the unit, whose reason was lost; run asrkd label retry"


def quarantined(root: str, unit: int) -> list[tuple[str, str]]:
    """(cut id, reason) of a unit's bad cuts."""
    entries = read_entries(root, quarantine_name(unit), "id", "reason")
    return [(entry["id"], entry["reason"]) for entry in entries]


def quarantined_units(root: str) -> list[int]:
    """The units that have bad cuts, in order."""
    found = (unit_of(one.name) for one in list_files(root, "quarantine", ".jsonl"))
    return sorted(unit for unit in found if unit is not None)


def write_quarantine(root: str, unit: int, entries: Iterable[tuple[str, str]]) -> None:
    """Replace the bad cuts of a unit; without any, there is no file."""
    bad = [{"id": key, "reason": why} for key, why in entries]
    if bad:
        write_entries(root, quarantine_name(unit), bad)
    elif exists(root, quarantine_name(unit)):
        remove(root, quarantine_name(unit))


def agree(root: str, unit: int, reasons: Mapping[str, str]) -> None:
    """Let the quarantine of a finished unit be what its shard has not, after two tasks labeled it with different luck.

    Args:
        reasons: what is known of bad cuts, by id.
    """
    stored = set(Store.open(root).column(unit, "id").to_pylist())
    missing = [cut["id"] for cut in read_cuts(root, unit) if cut["id"] not in stored]
    write_quarantine(root, unit, [(key, reasons.get(key, _UNKNOWN)) for key in sorted(missing)])
