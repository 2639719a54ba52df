"""The cuts that could not be labeled, each with the reason: `quarantine/part-*.jsonl`, one file a unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from asrkd.store.entries import read_entries, write_entries
from asrkd.store.files import Files
from asrkd.store.schema import quarantine_name, unit_of
from asrkd.store.threads import read_ahead


@dataclass(frozen=True)
class Quarantine:
    """The quarantine of a store."""

    files: Files

    def units(self) -> list[int]:
        """The units that have bad cuts, in order."""
        found = (unit_of(file.name) for file in self.files.list("quarantine", ".jsonl"))
        return sorted(unit for unit in found if unit is not None)

    def of(self, units: Iterable[int]) -> list[tuple[str, str]]:
        """(cut id, reason) of the bad cuts of some units.

        Raises:
            StoreError: a file is damaged.
        """
        entries = (entry for unit in units for entry in read_entries(self.files, quarantine_name(unit), "id", "reason"))
        return [(entry["id"], entry["reason"]) for entry in entries]

    def each(self, units: Iterable[int]) -> Iterator[tuple[int, list[tuple[str, str]]]]:
        """(unit, what `of` it returns) for each of some units, which may be more than memory holds."""
        return read_ahead(lambda unit: (unit, self.of([unit])), units)

    def write(self, unit: int, bad: Iterable[tuple[str, str]]) -> None:
        """Replace the bad cuts of a unit; without any, there is no file.

        Raises:
            StoreError: it cannot be written.
        """
        entries = [{"id": key, "reason": why} for key, why in bad]
        if entries:
            write_entries(self.files, quarantine_name(unit), entries)
        else:
            self.files.remove(quarantine_name(unit))
