"""Tokenizers: from text to the tokens that a model's units spell, and back; named by a spec, `KIND:ARGUMENT`.

A lexicon of phones is the one kind. Another (characters, SentencePiece, the units that a teacher brought) is a class with these methods and a line
in `TOKENIZERS`; its spec then goes wherever a lexicon's path does: `inventory.lexicon` of a config, whose copy in the run folder names it, the
`lexicon` of a lattice model, and `--lexicon`. Stores hold units alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from asrkd import fingerprint, text
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import CorpusError


class Tokenizer(Protocol):
    """What spells text. Ids are places in `tokens`."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Names of the tokens: a model's units follow from them (`Inventory.from_lexicon`)."""

    @property
    def words(self) -> tuple[str, ...] | None:
        """The words that can be searched for, each once; None where any word can be spelled: searches then find tokens."""

    def encode(self, transcript: str, *, what: str = "transcript") -> list[list[tuple[int, ...]]]:
        """For each word of a transcript its pronunciations as ids, the usual one first.

        Raises:
            CorpusError: a word that cannot be spelled; `what` names the transcript.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens."""


class TokenizerKind(NamedTuple):
    """How a kind is read, and its content's fingerprint taken; both are given what follows the colon of a spec."""

    read: Callable[[str], Tokenizer]
    fingerprint: Callable[[str], str] = fingerprint.of_file


TOKENIZERS = {"lexicon": TokenizerKind(Lexicon.read, text.fingerprint)}


def read_tokenizer(spec: str) -> Tokenizer:
    """The tokenizer of a spec. A path alone is that of a lexicon.

    Raises:
        CorpusError: it cannot be read.
    """
    kind, argument = _parse(spec)
    return kind.read(argument)


def tokenizer_fingerprint(spec: str) -> str:
    """Of what a spec names, by content.

    Raises:
        CorpusError: it cannot be read.
    """
    kind, argument = _parse(spec)
    try:
        return kind.fingerprint(argument)
    except OSError as error:
        raise CorpusError(f"tokenizer {spec!r} cannot be read: {error.strerror or error}; correct the path") from None


def spell(tokenizer: Tokenizer, transcript: str, *, what: str = "transcript") -> list[list[tuple[str, ...]]]:
    """`Tokenizer.encode`, as names: what an inventory looks up."""
    names = tokenizer.tokens
    return [
        [tuple(names[number] for number in ids) for ids in spellings]
        for spellings in tokenizer.encode(transcript, what=what)
    ]


def vocabulary(tokenizer: Tokenizer) -> dict[str, list[tuple[str, ...]]]:
    """What a search may find: the pronunciations of each word, as names of tokens; without a list of words the tokens, each a word."""
    if tokenizer.words is None:
        return {token: [(token,)] for token in tokenizer.tokens}
    return {word: spell(tokenizer, word)[0] for word in tokenizer.words}


def _parse(spec: str) -> tuple[TokenizerKind, str]:
    kind, colon, argument = spec.partition(":")
    return (TOKENIZERS[kind], argument) if colon and kind in TOKENIZERS else (TOKENIZERS["lexicon"], spec)
