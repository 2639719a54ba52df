"""The pronunciation lexicon: words and the phones that spell them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from asrkd import files, text
from asrkd.corpus.lexicon_file import read_rows
from asrkd.corpus.spelling import CannotSpell
from asrkd.errors import CorpusError

_log = logging.getLogger(__name__)
# Names that graphs and grammars use for the empty symbol, back-off and the ends of sentences.
RESERVED_WORDS = ("<eps>", "<s>", "</s>", "#0")
RESERVED_PHONES = ("<eps>", "<blk>")


@dataclass(frozen=True)
class Lexicon:
    """Words and their pronunciations, in the order of the file.

    Attributes:
        table: all tokens of a model in the order of their ids, where a table says so; empty for the phones in use, sorted.

    A word has no blank, tab or line end (a transcript is split there); several pronunciations are several lines.
    """

    pronunciations: Mapping[str, tuple[tuple[str, ...], ...]]
    table: tuple[str, ...] = ()
    kind: ClassVar[str] = "lexicon"

    @classmethod
    def read(cls, path: str | Path) -> Lexicon:
        """Read `word phone phone ...` lines in any form of `asrkd.corpus.lexicon_file`.

        Raises:
            CorpusError: as `lexicon_file.read_rows` and `from_pairs`.
        """
        rows = read_rows(path)
        return cls._of(
            [(f"lexicon {str(path)!r} line {number}", word, phones) for number, word, phones in rows], str(path)
        )

    @classmethod
    def from_pairs(cls, pairs: Sequence[tuple[str, Sequence[str]]]) -> Lexicon:
        """Build from (word, phones) pairs.

        Words are kept in Unicode's composed form (NFC), in which transcripts are looked up; phones as they are.

        Raises:
            CorpusError: no pairs, a word or phone that is empty, has white space in it or a name that graphs use themselves, a
                word without phones, or two phones that differ in Unicode's form alone.
        """
        return cls._of([("lexicon", word, phones) for word, phones in pairs])

    @classmethod
    def _of(cls, entries: Sequence[tuple[str, str, Sequence[str]]], name: str = "") -> Lexicon:
        """From (place for errors, word, phones)."""
        table: dict[str, list[tuple[str, ...]]] = {}
        known: set[str] = set()
        composed = 0
        for place, word, phones in entries:
            new = [phone for phone in phones if phone not in known]
            _check(place, word, phones, new)
            known.update(new)
            composed += text.normal(word) != word
            spellings = table.setdefault(text.normal(word), [])
            if tuple(phones) not in spellings:
                spellings.append(tuple(phones))
        what = f"lexicon {name!r}" if name else "the lexicon"
        if not table:
            raise CorpusError(f"{what} has no words; nothing could be aligned or decoded with it")
        if composed:
            _log.warning(
                "%s: %d words were put into Unicode's composed form (NFC), in which words are looked up", what, composed
            )
        lexicon = cls({word: tuple(spellings) for word, spellings in table.items()})
        forms: dict[str, str] = {}
        for phone in lexicon.tokens:
            if (other := forms.setdefault(text.normal(phone), phone)) != phone:
                raise CorpusError(
                    f"{what}: the phones {ascii(other)} and {ascii(phone)} look the same and differ in Unicode's form alone (NFC, "
                    "NFD), so they would be two units; write them the same"
                )
        return lexicon

    @property
    def complete(self) -> bool:
        return bool(self.table)

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.pronunciations)

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The phones in use, sorted; or those of the table."""
        return self.table or tuple(
            sorted({phone for spellings in self.pronunciations.values() for phones in spellings for phone in phones})
        )

    @cached_property
    def _ids(self) -> dict[str, list[tuple[int, ...]]]:
        numbers = {phone: number for number, phone in enumerate(self.tokens)}
        return {
            word: [tuple(numbers[phone] for phone in phones) for phones in spellings]
            for word, spellings in self.pronunciations.items()
        }

    def encode(self, transcript: str, *, what: str = "transcript") -> list[list[tuple[int, ...]]]:
        """The pronunciations of each word of a transcript, as places of its phones in `tokens`.

        Raises:
            CannotSpell: a word is not in the lexicon.
        """
        spelled = []
        for word in text.words(text.normal(transcript)):
            if word not in self.pronunciations:
                raise CannotSpell(
                    f"{what}: word {word!r} is not in the lexicon of {len(self.pronunciations)} words, so {transcript!r} "
                    "cannot be aligned or scored; add the word or leave out the cut",
                    [word],
                )
            spelled.append(self._ids[word])
        return spelled

    def decode(self, ids: Sequence[int]) -> str:
        """The names of phones: which words they are takes a search (`asrkd.graphs`)."""
        return " ".join(self.tokens[number] for number in ids)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Lexicon:
        """The inverse of `to_dict`."""
        table: dict[str, list[tuple[str, ...]]] = {}
        for line in values["lines"].split("\n"):
            word, _, phones = line.partition("\t")
            table.setdefault(word, []).append(tuple(phones.split(" ")))
        return cls({word: tuple(spellings) for word, spellings in table.items()}, tuple(values["table"]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a checkpoint."""
        return {"lines": "".join(self._lines())[:-1], "table": list(self.table)}

    def _lines(self) -> Iterator[str]:
        for word, spellings in self.pronunciations.items():
            yield from (f"{word}\t{' '.join(phones)}\n" for phones in spellings)

    def write(self, path: str | Path) -> None:
        """Write the form that `read` reads.

        Raises:
            CorpusError: it would be read as another lexicon, such as one whose phones look like probabilities.
        """
        content, path = "".join(self._lines()).encode(), Path(path)
        with tempfile.TemporaryDirectory(prefix="asrkd-lexicon-") as folder:
            (Path(folder) / "lexicon.txt").write_bytes(content)
            try:
                pairs = [row[1:] for row in read_rows(Path(folder) / "lexicon.txt", name=path.name)]
                if Lexicon.from_pairs(pairs).pronunciations != self.pronunciations:
                    raise CorpusError(
                        "it would be read as another lexicon, because of words or phones that look like something else"
                    )
            except CorpusError as error:
                raise CorpusError(f"the lexicon cannot be written to {str(path)!r}: {error}") from None
        files.write(path, content)


def _check(place: str, word: str, phones: Sequence[str], new: Sequence[str]) -> None:
    """Raise `CorpusError` for names that no file could hold, or that graphs use themselves; `new` phones were not checked yet."""
    for name in (word, *new):
        if text.words(name) != [name] or not text.is_utf8(name):
            raise CorpusError(
                f"{place}: {name!r} (word {word!r}) is empty, has white space in it or is not Unicode, so that no transcript could "
                "match it"
            )
    if word in RESERVED_WORDS:
        raise CorpusError(f"{place}: the word {word!r} is a symbol of decoding graphs; leave it out")
    if not phones:
        raise CorpusError(f"{place}: word {word!r} has no phones, so it cannot be aligned or decoded")
    for phone in new:
        if phone in RESERVED_PHONES or phone.startswith("#"):
            raise CorpusError(
                f"{place}: {phone!r} (word {word!r}) is the name of a blank, an empty symbol or a disambiguation symbol, or a "
                "comment, and cannot be a phone; name it otherwise"
            )
