"""Which words a search can find: of a tokenizer, of a language model that it spells, or of a model's units alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from asrkd import text
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.corpus.units import tokenizer_of_units
from asrkd.decoding.language_model import is_kenlm_binary
from asrkd.errors import ConfigError, CorpusError
from asrkd.sequence.acceptor import acceptor_words, is_acceptor
from asrkd.sequence.grammar import SPECIAL, composed_arpa

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpelledWords:
    """Words that a tokenizer spells which can spell any."""

    tokenizer: Tokenizer
    spellings: Mapping[str, tuple[tuple[int, ...], ...]]
    complete: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        return self.tokenizer.kind

    @property
    def tokens(self) -> tuple[str, ...]:
        return self.tokenizer.tokens

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(self.spellings)

    def encode(self, transcript: str, *, what: str = "transcript") -> list[list[tuple[int, ...]]]:
        return [list(self.spellings[word]) for word in text.words(text.normal(transcript))]

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def to_dict(self) -> dict[str, Any]:
        return self.tokenizer.to_dict()


def spelling_of(tokenizer: Tokenizer | None, inventory: Inventory) -> Tokenizer:
    """The tokenizer, or that of the units alone.

    Raises:
        ConfigError: there is none, and the units are states, which spell nothing.
    """
    if tokenizer is not None:
        return tokenizer
    if not inventory.topology.collapses_repeats:
        raise ConfigError(
            f"the model's units are states of topology {inventory.topology_name!r}, which spell no words by themselves; give the lexicon of the words "
            "to find (--lexicon)"
        )
    return tokenizer_of_units(inventory)


def searchable(tokenizer: Tokenizer, grammar: str | None) -> Tokenizer:
    """The tokenizer with the words that a grammar's search can find: where it has no list of them, those of the grammar.

    A grammar of its tokens leaves it as it is.

    Raises:
        CorpusError: a grammar that cannot be read, or of which no word can be spelled.
        ConfigError: a binary file, which does not list its words.
    """
    if grammar is None or tokenizer.words is not None:
        return tokenizer
    if is_kenlm_binary(grammar):
        raise ConfigError(
            f"language model {grammar!r} is a binary file, which does not list its words; give the ARPA file, or a lexicon of the words to find (--lexicon)"
        )
    if is_acceptor(grammar):
        words = acceptor_words(grammar)
    else:
        with composed_arpa(grammar) as (_, unigrams):
            words = [word for word in unigrams if word not in SPECIAL]
    if words and set(words) <= set(tokenizer.tokens):
        return tokenizer
    spellings, missing = {}, []
    for word in words:
        try:
            # Where a sign separates words, a word has it when it is not the first.
            first, (_, other) = tokenizer.encode(word)[0], tokenizer.encode(f"{word} {word}")
        except (CorpusError, ConfigError):
            missing.append(word)
            continue
        spellings[word] = tuple(dict.fromkeys([*first, *other]))
    shown = f"{', '.join(map(repr, missing[:10]))}{', ...' if len(missing) > 10 else ''}"
    if not spellings:
        raise CorpusError(
            f"language model {grammar!r} has {len(words)} words, none of which is among the model's {len(tokenizer.tokens)} units or can be spelled with "
            f"them ({shown}); give a language model of these units, or name the tokenizer (--lexicon)"
        )
    if missing:
        _log.warning(
            "language model %r: %d of %d words cannot be spelled with the model's units and are not found: %s",
            grammar,
            len(missing),
            len(words),
            shown,
        )
    return SpelledWords(tokenizer, spellings)
