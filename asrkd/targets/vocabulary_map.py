"""Soft targets over a teacher's classes as soft targets over a student's: many-to-one, mass is summed."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asrkd import fingerprint, text
from asrkd.errors import ConfigError, MismatchError
from asrkd.targets.sparse import SparseTargets, summed

NOWHERE = -1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class VocabularyMap:
    """Where each class of a teacher goes.

    Attributes:
        table: (V_teacher,) int64 class of the student, or NOWHERE.
        units: the student's.
    """

    table: NDArray[np.int64]
    units: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """V of the student."""
        return len(self.units)

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json([self.table.tolist(), list(self.units)])

    @classmethod
    def from_units(
        cls, pairs: Mapping[str, str], teacher: Sequence[str], student: Sequence[str], *, lossy: bool = False
    ) -> VocabularyMap:
        """From names of units. One that its inventory does not have is looked up in Unicode's composed form (NFC).

        Args:
            pairs: student unit by teacher unit.
            teacher, student: the units of both inventories, in order.
            lossy: let teacher units that `pairs` does not have go nowhere; their mass becomes missing.

        Raises:
            MismatchError: a name that its inventory does not have, or teacher units without a place and not `lossy`.
        """
        pairs = _composed(pairs, teacher, student)
        places = {unit: number for number, unit in enumerate(student)}
        for whose, names, known in (("teacher", pairs, set(teacher)), ("student", pairs.values(), places.keys())):
            unknown = [name for name in names if name not in known]
            if unknown:
                near = difflib.get_close_matches(unknown[0], list(known), n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise MismatchError(
                    f"vocabulary map: {unknown[0]!r}{hint} is not among the {whose}'s {len(known)} units, nor are "
                    f"{len(unknown) - 1} more names; correct the map, or use the inventory that it was made for"
                )
        lost = [unit for unit in teacher if unit not in pairs]
        if lost and not lossy:
            raise MismatchError(
                f"vocabulary map: {len(lost)} of the teacher's {len(teacher)} units have no place (first: {lost[0]!r}), so "
                "their mass would be lost; map them, or ask for a lossy map"
            )
        table = [places[pairs[unit]] if unit in pairs else NOWHERE for unit in teacher]
        return cls(np.asarray(table, dtype=np.int64), tuple(student))

    @classmethod
    def read(
        cls, path: str | Path, teacher: Sequence[str], student: Sequence[str], *, lossy: bool = False
    ) -> VocabularyMap:
        """From a table: a line a teacher unit, a tab, and its student unit; both may hold anything but tabs and line ends.

        Raises:
            ConfigError: the file is missing, or a line has another form or repeats a teacher unit.
            MismatchError: as in `from_units`.
        """
        pairs: dict[str, str] = {}
        for number, line in text.stream(path, what="vocabulary map", error=ConfigError):
            if not line:
                continue
            parts = line.split("\t")
            if len(parts) != 2 or not all(parts):
                raise ConfigError(
                    f"vocabulary map {str(path)!r}, line {number}: {line!r} is not a teacher unit, a tab and a student unit"
                )
            if parts[0] in pairs:
                raise ConfigError(
                    f"vocabulary map {str(path)!r}, line {number}: {parts[0]!r} occurs twice, but a unit goes to one place"
                )
            pairs[parts[0]] = parts[1]
        return cls.from_units(pairs, teacher, student, lossy=lossy)

    @property
    def untouched(self) -> NDArray[np.int64]:
        """Classes of the student that nothing goes to."""
        return np.setdiff1d(np.arange(self.num_classes), self.table)

    def __call__(self, targets: SparseTargets) -> SparseTargets:
        """Soft targets over the student's classes; the mass of classes that go nowhere becomes missing.

        Raises:
            MismatchError: the targets are over another number of classes.
        """
        if targets.num_classes != len(self.table):
            raise MismatchError(
                f"the vocabulary map is for a teacher of {len(self.table)} classes, the targets have {targets.num_classes}; "
                "classes would be mixed up"
            )
        frames = np.repeat(np.arange(targets.num_frames), targets.counts.numpy())
        classes = self.table[targets.ids.numpy()]
        probs = np.exp(targets.log_probs.numpy().astype(np.float64))
        placed = classes != NOWHERE
        entries = summed(frames[placed], classes[placed], probs[placed], targets.num_frames, self.num_classes)
        lost = np.bincount(frames[~placed], weights=probs[~placed], minlength=targets.num_frames)
        missing = torch.from_numpy(np.clip(targets.missing.numpy() + lost, 0.0, 1.0).astype(np.float32))
        return SparseTargets.of_counts(*entries, missing, self.num_classes, targets.lengths)


def _composed(pairs: Mapping[str, str], teacher: Sequence[str], student: Sequence[str]) -> dict[str, str]:
    """The pairs with the names that the inventories have, where these differ in Unicode's form alone."""
    (of_teacher, of_student), changed = (_by_form(units) for units in (teacher, student)), 0
    result: dict[str, str] = {}
    for one, other in pairs.items():
        names = _named(one, of_teacher), _named(other, of_student)
        changed += names != (one, other)
        if names[0] in result:
            raise ConfigError(
                f"vocabulary map: {one!r} occurs twice, in two forms of Unicode, but a unit goes to one place"
            )
        result[names[0]] = names[1]
    if changed:
        _log.warning(
            "vocabulary map: %d lines name their units in another form of Unicode than the inventories", changed
        )
    return result


def _by_form(units: Sequence[str]) -> dict[str, list[str]]:
    forms: dict[str, list[str]] = {}
    for unit in units:
        forms.setdefault(text.normal(unit), []).append(unit)
    return forms


def _named(name: str, forms: Mapping[str, Sequence[str]]) -> str:
    """The unit of this name, or the only one that is the same in the composed form; otherwise the name itself."""
    same = forms.get(text.normal(name), ())
    return same[0] if len(same) == 1 else name
