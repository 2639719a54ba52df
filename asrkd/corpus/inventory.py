"""The inventory: the output units of an acoustic model, and the topology that gives them meaning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from asrkd import files, fingerprint, text
from asrkd.config import BY_CONTENT, check, setting
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.token_table import SPECIAL
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.corpus.topology import Topology, make_topology
from asrkd.errors import AsrkdError, ConfigError, CorpusError, MismatchError


@dataclass
class InventoryConfig:
    """The output units: the tokens of a tokenizer (docs/tokens.md), or those of a store."""

    lexicon: str = setting("", resume=BY_CONTENT)
    """File with the pronunciations of every word, or the spec of another tokenizer, e.g. `sentencepiece:bpe.model` (`asrkd.corpus.tokenizer`)."""
    topology: str = setting("ctc", form=make_topology)
    """`hmm` (states of phones, trained on alignments) or `ctc` (phones and blank)."""
    states_per_phone: int = setting(2, at_least=1)
    """HMM states per phone; `ctc` ignores it."""
    store: str = setting("", resume=BY_CONTENT)
    """Store of soft targets whose units, topology and states are taken. Text is spelled by `lexicon`, or without one by the tokenizer that the store holds."""
    text: TextRules = setting(TextRules)
    """Normalization of transcripts before they are spelled."""

    def __post_init__(self) -> None:
        check(self, "inventory")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if not self.lexicon and not self.store:
            yield (
                "lexicon",
                "is required, but not set; name a lexicon or tokenizer, or set inventory.store to take a store's units",
            )


@dataclass(frozen=True)
class Inventory:
    """Output units in order of class id, and the name of the topology that they are of (`asrkd.corpus.topology`)."""

    units: tuple[str, ...]
    topology_name: str
    states_per_phone: int = 1

    def __post_init__(self) -> None:
        make_topology(self.topology_name, self.states_per_phone)
        twice = [unit for unit, count in Counter(self.units).items() if count > 1]
        if twice or len(self.units) < 2:
            found = f"{twice[0]!r} occurs twice" if twice else f"found {list(self.units)!r}"
            raise ConfigError(f"an inventory needs at least two units, each named once; {found}")
        for number, unit in enumerate(self.units):
            if not unit or "\n" in unit or unit[-1] == "\r" or not text.is_utf8(unit):
                raise ConfigError(
                    f"unit {unit!r} is empty, has a line break or is not Unicode, but an inventory is written a unit a line"
                )
            if number == 0 and unit[0] == "\ufeff":
                raise ConfigError(
                    f"unit 0 is {unit!r}, which begins with a byte order mark; no file can begin with such a unit"
                )

    def check_tokenizer(self, tokenizer: Tokenizer, what: str) -> None:
        """Raise `MismatchError` unless the units have all tokens that the tokenizer spells with, and it can read all of them; `what` names it.

        A tokenizer with a list of words reads words, not units.
        """
        known, tokens = set(self.topology.tokens(self.units)[0]), set(tokenizer.tokens)
        foreign = [token for token in tokenizer.tokens if token not in known and token not in SPECIAL]
        unread = [] if tokenizer.words is not None else sorted(known - tokens - {self.topology.nothing})
        for names, why in (
            (foreign, "spells with {} tokens that are not among the {} units"),
            (unread, "has no token for {} of the {} units"),
        ):
            if names:
                raise MismatchError(
                    f"{what} {why.format(len(names), len(self.units))} ({', '.join(map(repr, names[:5]))}{', ...' if len(names) > 5 else ''}); give the one that "
                    "the model was trained with"
                )

    def check_first_unit(self) -> None:
        """Raise `ConfigError` unless unit 0 is the one that the topology gives a meaning.

        Asked of every teacher, not of an inventory as such: stores from before it was asked are still read.
        """
        first, what = self.topology.nothing, self.topology.nothing_is
        if self.units[0] != first:
            found = f"{first!r} is unit {self._index[first]}" if first in self._index else f"there is no {first!r}"
            raise ConfigError(
                f"unit 0 of topology {self.topology_name} is {what}, {first!r}, but here it is {self.units[0]!r} ({found}), which would be taken for "
                f"{what}; put {what} first, in the model's output as in the units, and name it {first!r}"
            )

    @classmethod
    def from_lexicon(
        cls, tokenizer: Tokenizer, topology: str, *, states_per_phone: int = InventoryConfig.states_per_phone
    ) -> Inventory:
        """The output units of a topology for the tokens of a tokenizer.

        Raises:
            ConfigError: the tokens are all the classes of a model, and the blank that the topology needs is not among them.
        """
        made = make_topology(topology, states_per_phone)
        if made.has_blank and tokenizer.complete and made.nothing not in tokenizer.tokens:
            raise ConfigError(
                f"inventory: topology {topology!r} needs a blank, but among the {len(tokenizer.tokens)} tokens of the table there is none by a name that "
                "is known ('<blk>', '<blank>', '<pad>', '[PAD]', or '<eps>' with id 0); name its blank '<blk>', or add one with id 0"
            )
        return cls(made.units(tokenizer.tokens), topology, made.states_per_phone)

    @cached_property
    def topology(self) -> Topology:
        """What the units mean frame by frame."""
        return make_topology(self.topology_name, self.states_per_phone)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Inventory:
        """The inverse of `to_dict`."""
        return cls(tuple(values["units"]), values["topology"], int(values.get("states_per_phone", 1)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a checkpoint."""
        return {"units": list(self.units), "topology": self.topology_name, "states_per_phone": self.states_per_phone}

    def __len__(self) -> int:
        return len(self.units)

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json([self.topology_name, self.states_per_phone, list(self.units)])

    @cached_property
    def _index(self) -> dict[str, int]:
        return {unit: number for number, unit in enumerate(self.units)}

    def ids(self, phones: Sequence[str]) -> list[int]:
        """The class ids that phones pass through.

        Raises:
            CorpusError: a phone that the inventory does not have.
        """
        ids = []
        for phone in phones:
            for name in self.topology.spelling(phone):
                if name not in self._index:
                    raise CorpusError(
                        f"phone {phone!r} is not in the inventory of {len(self.units)} units ({self.topology_name}), so the model has no scores for it; "
                        "take a lexicon, or tokens, of the model's own units"
                    )
                ids.append(self._index[name])
        return ids

    def write(self, path: str | Path) -> None:
        """One unit a line, as `inventory.txt` in a store."""
        files.write(path, inventory_bytes(self.units))


def inventory_bytes(units: Sequence[str]) -> bytes:
    """One unit a line, which `read_inventory` reads."""
    return "".join(f"{unit}\n" for unit in units).encode()


def read_inventory(data: bytes, *, error: type[AsrkdError] = CorpusError) -> list[str]:
    """The units of an `inventory.txt`.

    Raises:
        AsrkdError: the bytes are not UTF-8.
    """
    return text.lines(text.decode_utf8(data, what="inventory.txt", error=error))
