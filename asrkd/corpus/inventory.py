"""The inventory: the output units of an acoustic model, and the topology that gives them meaning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from asrkd import files, fingerprint
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import ConfigError, CorpusError

TOPOLOGIES = ("hmm", "ctc")
BLANK = "<blk>"
SILENCE = "SIL"


@dataclass(frozen=True)
class Inventory:
    """Output units in order of class id.

    `ctc`: unit 0 is the blank `<blk>`, the others are phones or tokens.
    `hmm`: unit 0 is silence `SIL`; the others are HMM states `phone_0`, `phone_1`, ..., left to right, each with a
    self-loop. An output class is one HMM state (a pdf-id).
    """

    units: tuple[str, ...]
    topology: str
    states_per_phone: int = 1

    def __post_init__(self) -> None:
        if self.topology not in TOPOLOGIES:
            raise ConfigError(f"topology is {self.topology!r}, but must be one of {', '.join(TOPOLOGIES)}")
        if self.states_per_phone < 1:
            raise ConfigError(f"states_per_phone is {self.states_per_phone}, but must be at least 1")
        twice = [unit for unit, count in Counter(self.units).items() if count > 1]
        if twice or len(self.units) < 2:
            found = f"{twice[0]!r} stands twice" if twice else f"found {list(self.units)!r}"
            raise ConfigError(f"an inventory needs at least two units, each named once; {found}")
        for unit in self.units:
            if unit.splitlines() != [unit]:
                raise ConfigError(
                    f"unit {unit!r} is empty or has a line break, but an inventory is written a unit a line"
                )

    @classmethod
    def from_lexicon(cls, lexicon: Lexicon, topology: str, *, states_per_phone: int = 2) -> Inventory:
        """The phones of a lexicon as CTC tokens, or as left-to-right HMM states plus silence."""
        if topology == "ctc":
            return cls((BLANK, *lexicon.phones), "ctc", 1)
        if states_per_phone < 1:
            raise ConfigError(f"states_per_phone is {states_per_phone}, but must be at least 1")
        phones = [phone for phone in lexicon.phones if phone != SILENCE]
        states = [f"{phone}_{state}" for phone in phones for state in range(states_per_phone)]
        return cls((SILENCE, *states), topology, states_per_phone)

    def __len__(self) -> int:
        return len(self.units)

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json([self.topology, self.states_per_phone, list(self.units)])

    @cached_property
    def _index(self) -> dict[str, int]:
        return {unit: number for number, unit in enumerate(self.units)}

    def ids(self, phones: Sequence[str]) -> list[int]:
        """The class ids that phones pass through: one a phone (`ctc`), or each of its states (`hmm`)."""
        ids = []
        for phone in phones:
            if self.topology == "ctc" or phone == SILENCE:
                names = [phone]
            else:
                names = [f"{phone}_{state}" for state in range(self.states_per_phone)]
            for name in names:
                if name not in self._index:
                    raise CorpusError(
                        f"phone {phone!r} is not in the inventory of {len(self.units)} units ({self.topology})"
                    )
                ids.append(self._index[name])
        return ids

    def write(self, path: str | Path) -> None:
        """One unit a line, as `inventory.txt` in a store."""
        files.write(path, "".join(f"{unit}\n" for unit in self.units))
