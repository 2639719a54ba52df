"""Tokens: what words are spelled with in graphs, numbered from 1, and the classes that each passes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer, spell, vocabulary
from asrkd.errors import CorpusError


@dataclass(frozen=True)
class Tokens:
    """The tokens of an inventory: CTC units but the blank, or silence and the phones of an HMM.

    Attributes:
        names: token n at n - 1.
        states: its classes in order; one for CTC.
        silence: the token of silence, None for CTC.
    """

    names: tuple[str, ...]
    states: tuple[tuple[int, ...], ...]
    silence: int | None

    @classmethod
    def of(cls, inventory: Inventory) -> Tokens:
        """The tokens in the order of their classes."""
        return cls(*inventory.topology.tokens(inventory.units))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names, 1)}

    def ids(self, phones: Sequence[str]) -> tuple[int, ...]:
        """Token ids.

        Raises:
            CorpusError: a phone that is not among the tokens.
        """
        for phone in phones:
            if phone not in self._numbers:
                raise CorpusError(f"phone {phone!r} is not among the {len(self.names)} tokens of the model's inventory")
        return tuple(self._numbers[phone] for phone in phones)

    def spell(self, text: str, tokenizer: Tokenizer, *, what: str = "transcript") -> list[list[tuple[int, ...]]]:
        """For each word of a transcript its pronunciations as tokens.

        Raises:
            CorpusError: a word that the tokenizer cannot spell.
        """
        return [[self.ids(phones) for phones in spellings] for spellings in spell(tokenizer, text, what=what)]

    def pronunciations(self, tokenizer: Tokenizer) -> list[tuple[int, tuple[int, ...]]]:
        """(word, tokens) of the vocabulary, words numbered from 1 in its order."""
        return [
            (number, self.ids(phones))
            for number, spellings in enumerate(vocabulary(tokenizer).values(), 1)
            for phones in spellings
        ]

    def read(self, classes: Sequence[int]) -> list[int]:
        """The tokens of a path of classes: an alignment."""
        collapsed = [label for n, label in enumerate(classes) if n == 0 or classes[n - 1] != label]
        begins = {own[0]: number for number, own in enumerate(self.states, 1)}
        return [begins[label] for label in collapsed if label in begins]
