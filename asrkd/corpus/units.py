"""The units of a model or store as tokens, where nothing says how text is spelled with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from asrkd import text
from asrkd.corpus.characters import BOUNDARIES, Characters
from asrkd.corpus.token_table import SPECIAL, in_order, with_blank
from asrkd.errors import CorpusError

if TYPE_CHECKING:
    from asrkd.corpus.inventory import Inventory


@dataclass(frozen=True)
class Units:
    """Units that are read but not spelled: with a sign of word boundaries among them (`▁`, `|`, `<space>`) they are pieces of words; otherwise each is
    written as a word.

    Attributes:
        tokens: of a `ctc` model its units, of `hmm` its phones.
    """

    tokens: tuple[str, ...]
    words: ClassVar[None] = None
    complete: ClassVar[bool] = True
    kind: ClassVar[str] = "units"

    @property
    def have_boundaries(self) -> bool:
        """Whether they are pieces of words, so that a path of them is text."""
        return any(boundary in token for token in self.tokens for boundary in BOUNDARIES)

    @classmethod
    def read(cls, path: str) -> Units | Characters:
        """Of an `inventory.txt`, one unit a line.

        Raises:
            CorpusError: it cannot be read, or units are there twice.
        """
        what = f"inventory {path!r}"
        lines = text.lines(text.read(path, what="inventory"))
        names = in_order([(unit, number) for number, unit in enumerate(lines)], what)
        return _of_names(with_blank(names, what))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Units:
        """The inverse of `to_dict`."""
        return cls(tuple(values["tokens"]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a checkpoint."""
        return {"tokens": list(self.tokens)}

    def encode(self, transcript: str, *, what: str = "transcript") -> list[list[tuple[int, ...]]]:
        """Raises `CorpusError`: nothing says how text is spelled with these units."""
        raise CorpusError(
            f"{what}: nothing says how {transcript!r} is spelled with the {len(self.tokens)} units of a teacher (the first are "
            f"{', '.join(map(repr, self.tokens[:4]))}); name the tokenizer or lexicon that the teacher was trained with (inventory.lexicon, which goes with inventory.store, too)"
        )

    def decode(self, ids: Sequence[int]) -> str:
        """Text of pieces, or the names of units."""
        names = [token for token in map(self.tokens.__getitem__, ids) if token not in SPECIAL]
        if not self.have_boundaries:
            return " ".join(names)
        joined = "".join(names)
        for boundary in BOUNDARIES:
            joined = joined.replace(boundary, " ")
        return " ".join(text.words(joined))


def tokenizer_of_units(inventory: Inventory) -> Units | Characters:
    """What reads the units of an inventory, and spells text with them where they are characters with a word boundary."""
    topology = inventory.topology
    tokens, _, _ = topology.tokens(inventory.units)
    return _of_names((topology.nothing, *tokens)) if topology.has_blank else Units(tokens)


def _of_names(tokens: tuple[str, ...]) -> Units | Characters:
    characters = Characters.of(tokens)
    spelled = [token for token in tokens if token not in SPECIAL and token != characters.boundary]
    return characters if characters.boundary and all(len(token) == 1 for token in spelled) else Units(tokens)
