"""Tokenizers: from text to the tokens that a model's units spell, and back; named by a spec, `KIND:ARGUMENT`.

Each kind is a class with these methods and a line in `TOKENIZERS`; its spec goes wherever a lexicon's path does: `inventory.lexicon` of a config,
the `lexicon` of a lattice model, and `--lexicon`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from asrkd import fingerprint, text
from asrkd.corpus.characters import Characters
from asrkd.corpus.lang import PHONES, TOKENS, fingerprint_lang, read_lang
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.sentencepiece_model import SentencePiece
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.tokenizer_json import FILE, TokenizerJson
from asrkd.corpus.topology import BLANK
from asrkd.corpus.units import Units
from asrkd.errors import CorpusError, MismatchError

_log = logging.getLogger(__name__)


class Tokenizer(Protocol):
    """What spells text. Ids are places in `tokens`."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Names of the tokens: a model's units follow from them (`Inventory.from_lexicon`)."""

    @property
    def words(self) -> tuple[str, ...] | None:
        """The words that can be searched for, each once; None where any word can be spelled: searches then find tokens."""

    @property
    def kind(self) -> str:
        """Its name in `TOKENIZERS`, whose `load` reads what `to_dict` gives."""

    @property
    def complete(self) -> bool:
        """Whether the tokens are all the units of a model, from a table of its classes, so that `ctc` adds no blank of its own."""

    def encode(self, transcript: str, *, what: str = "transcript") -> list[list[tuple[int, ...]]]:
        """For each word of a transcript its pronunciations as ids, the usual one first.

        Raises:
            CannotSpell: a word that cannot be spelled; `what` names the transcript.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens. Those that spell nothing, as the blank, are left out."""

    def to_dict(self) -> dict[str, Any]:
        """Values of JSON, which the `load` of its kind reads."""


@dataclass(frozen=True)
class Normalized:
    """A tokenizer whose transcripts are normalized first."""

    tokenizer: Tokenizer
    rules: TextRules

    @property
    def tokens(self) -> tuple[str, ...]:
        return self.tokenizer.tokens

    @property
    def words(self) -> tuple[str, ...] | None:
        return self.tokenizer.words

    @property
    def kind(self) -> str:
        return self.tokenizer.kind

    @property
    def complete(self) -> bool:
        return self.tokenizer.complete

    def encode(self, transcript: str, *, what: str = "transcript") -> list[list[tuple[int, ...]]]:
        return self.tokenizer.encode(self.rules(transcript), what=what)

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def to_dict(self) -> dict[str, Any]:
        return self.tokenizer.to_dict()


def _of_vocab(path: str) -> str:
    tokenizer = Characters.read_vocab(path)
    return fingerprint.of_json([tokenizer.tokens, tokenizer.boundary])


def _of_tokenizer_json(path: str) -> str:
    tokenizer = TokenizerJson.read(path)
    return fingerprint.of_json([tokenizer.tokens, tokenizer.content])


class TokenizerKind(NamedTuple):
    """How a kind is read, and its content's fingerprint taken; both are given what follows the colon of a spec.

    `load` is the inverse of `to_dict`; None where what is read is of other kinds.
    """

    read: Callable[[str], Tokenizer]
    load: Callable[[Mapping[str, Any]], Tokenizer] | None = None
    fingerprint: Callable[[str], str] = fingerprint.of_file


TOKENIZERS = {
    "lexicon": TokenizerKind(Lexicon.read, Lexicon.from_dict, text.fingerprint),
    "characters": TokenizerKind(Characters.read, Characters.from_dict, text.fingerprint),
    "vocab": TokenizerKind(Characters.read_vocab, None, _of_vocab),
    "sentencepiece": TokenizerKind(SentencePiece.read, SentencePiece.from_dict),
    "lang": TokenizerKind(read_lang, None, fingerprint_lang),
    "tokenizers": TokenizerKind(TokenizerJson.read, TokenizerJson.from_dict, _of_tokenizer_json),
    "units": TokenizerKind(Units.read, Units.from_dict, text.fingerprint),
}


def read_tokenizer(spec: str, rules: TextRules | None = None) -> Tokenizer:
    """The tokenizer of a spec. A path alone is that of a lexicon, unless its name is one that other kinds have.

    Args:
        rules: of the normalization of transcripts; by default their composed form alone (NFC).

    Raises:
        CorpusError: it cannot be read.
    """
    kind, argument = _parse(spec)
    return with_rules(TOKENIZERS[kind].read(argument), rules or TextRules())


def with_rules(tokenizer: Tokenizer, rules: TextRules) -> Tokenizer:
    """A tokenizer that normalizes by these rules alone."""
    tokenizer = _plain(tokenizer)
    # A lexicon looks up words in NFC by itself.
    if rules == TextRules() and isinstance(tokenizer, Lexicon):
        return tokenizer
    return Normalized(tokenizer, rules)


def rules_of(tokenizer: Tokenizer | None) -> TextRules:
    """By which a tokenizer normalizes."""
    return tokenizer.rules if isinstance(tokenizer, Normalized) else TextRules()


def normalized(tokenizer: Tokenizer, transcript: str) -> str:
    """A transcript by the rules of a tokenizer, as its decoded text is compared with it."""
    return tokenizer.rules(transcript) if isinstance(tokenizer, Normalized) else transcript


def tokenizer_fingerprint(spec: str) -> str:
    """Of what a spec names, by content.

    Raises:
        CorpusError: it cannot be read.
    """
    kind, argument = _parse(spec)
    try:
        return TOKENIZERS[kind].fingerprint(argument)
    except OSError as error:
        raise CorpusError(f"tokenizer {spec!r} cannot be read: {error.strerror or error}; correct the path") from None


def tokenizer_to_dict(tokenizer: Tokenizer) -> dict[str, Any]:
    """Plain values that hold a tokenizer whole, as in a checkpoint: no path is needed again."""
    return {"kind": tokenizer.kind, "text": asdict(rules_of(tokenizer)), "values": tokenizer.to_dict()}


def tokenizer_from_dict(values: Mapping[str, Any]) -> Tokenizer | None:
    """The inverse of `tokenizer_to_dict`; None, with a warning, for a kind that this process has not registered."""
    kind = values["kind"]
    if kind not in TOKENIZERS or not (load := TOKENIZERS[kind].load):
        _log.warning(
            "a model was trained with a tokenizer of kind %r, which is not known here, so it brings none; register it in TOKENIZERS",
            kind,
        )
        return None
    return with_rules(load(values["values"]), TextRules(**values["text"]))


def spell(tokenizer: Tokenizer, transcript: str, *, what: str = "transcript") -> list[list[tuple[str, ...]]]:
    """`Tokenizer.encode`, as names: what an inventory looks up."""
    names = tokenizer.tokens
    return [
        [tuple(names[number] for number in ids) for ids in spellings]
        for spellings in tokenizer.encode(transcript, what=what)
    ]


def decode_names(tokenizer: Tokenizer, names: Iterable[str]) -> str:
    """`Tokenizer.decode` of names, such as the units of a greedy path.

    Raises:
        MismatchError: a name that is not among the tokens.
    """
    ids = {token: number for number, token in enumerate(tokenizer.tokens)}
    found = list(names)
    if foreign := [name for name in found if name not in ids]:
        raise MismatchError(
            f"unit {foreign[0]!r} is not among the {len(ids)} tokens of the tokenizer; give the one that the model was trained with"
        )
    return tokenizer.decode([ids[name] for name in found])


def vocabulary(tokenizer: Tokenizer) -> dict[str, list[tuple[str, ...]]]:
    """What a search may find: the pronunciations of each word, as names of tokens; without a list of words the tokens, each a word."""
    if tokenizer.words is None:
        return {token: [(token,)] for token in tokenizer.tokens if token != BLANK}
    return {word: spell(_plain(tokenizer), word)[0] for word in tokenizer.words}


def units_are_no_text(tokenizer: Tokenizer) -> bool:
    """Whether all that is known are names of units, without a sign of word boundaries among them."""
    plain = _plain(tokenizer)
    return isinstance(plain, Units) and not plain.have_boundaries


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    return tokenizer.tokenizer if isinstance(tokenizer, Normalized) else tokenizer


def searched(tokenizer: Tokenizer, transcript: str) -> list[str]:
    """A transcript as a search through `vocabulary` finds it: its words, or without a list of words its tokens."""
    if tokenizer.words is not None:
        return text.words(text.normal(normalized(tokenizer, transcript)))
    return [token for spellings in spell(tokenizer, transcript) for token in spellings[0]]


def _parse(spec: str) -> tuple[str, str]:
    """The kind and argument of a spec; the kind of a path alone is told by its name.

    Raises:
        CorpusError: an unknown kind.
    """
    kind, colon, argument = spec.partition(":")
    if colon and kind in TOKENIZERS:
        return kind, argument
    path = Path(spec)
    if colon and kind.isidentifier() and not path.exists():
        raise CorpusError(
            f"tokenizer {spec!r}: {kind!r} is not a kind of tokenizer, and there is no such file; the kinds are {', '.join(TOKENIZERS)}"
        )
    if path.name == FILE or ((path / FILE).exists() and not any((path / name).exists() for name in (TOKENS, PHONES))):
        return TokenizerJson.kind, spec
    if path.is_dir() or path.name in (TOKENS, PHONES):
        return "lang", spec
    return _BY_SUFFIX.get(path.suffix, "lexicon"), spec


_BY_SUFFIX = {".json": "vocab", ".model": "sentencepiece"}
