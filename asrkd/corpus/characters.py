"""Characters as tokens, with a symbol where a word begins or between words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from asrkd import text
from asrkd.corpus.spelling import CannotSpell
from asrkd.corpus.token_table import SPECIAL, read_table, read_vocab, setting_beside
from asrkd.corpus.topology import BLANK
from asrkd.errors import CorpusError

# SentencePiece's symbol, which begins each word; the others separate words: those of ESPnet, and of transformers.
WORD_BEGIN = "▁"
BOUNDARIES = (WORD_BEGIN, "<space>", "|")


@dataclass(frozen=True)
class Characters:
    """Every character of a word is a token, as it is: its case, digits and punctuation are not changed.

    Attributes:
        tokens: a model's units but for the blank, which is named `<blk>` wherever its table has it; ids are places in them.
        boundary: `▁` begins every word; `|` or `<space>` separates words; without one (as in Mandarin) words are written
            without spaces.
    """

    tokens: tuple[str, ...]
    boundary: str = WORD_BEGIN
    words: ClassVar[None] = None
    complete: ClassVar[bool] = True
    kind: ClassVar[str] = "characters"

    @classmethod
    def of(cls, tokens: tuple[str, ...]) -> Characters:
        """With the boundary that is among the tokens."""
        return cls(tokens, next((symbol for symbol in BOUNDARIES if symbol in tokens), ""))

    @classmethod
    def read(cls, path: str) -> Characters:
        """Of a file of `token id` lines.

        Raises:
            CorpusError: it cannot be read, or is not such a table.
        """
        return cls.of(read_table(path))

    @classmethod
    def read_vocab(cls, path: str) -> Characters:
        """Of a `vocab.json` of transformers.

        Raises:
            CorpusError: it cannot be read, is not a map of tokens to ids, or has no word delimiter that it names.
        """
        tokens, boundary = read_vocab(path), setting_beside(Path(path), "word_delimiter_token")
        if boundary is None:
            return cls.of(tokens)
        if boundary not in tokens:
            raise CorpusError(
                f"vocabulary {path!r} has no {boundary!r}, the word_delimiter_token of tokenizer_config.json; words would run together"
            )
        return cls(tokens, boundary)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Characters:
        """The inverse of `to_dict`."""
        return cls(tuple(values["tokens"]), values["boundary"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a checkpoint."""
        return {"tokens": list(self.tokens), "boundary": self.boundary}

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {
            token: number
            for number, token in enumerate(self.tokens)
            if len(token) == 1 and token not in SPECIAL and token != self.boundary
        }

    @cached_property
    def _boundary_id(self) -> int | None:
        return self.tokens.index(self.boundary) if self.boundary else None

    def encode(self, transcript: str, *, what: str = "transcript") -> list[list[tuple[int, ...]]]:
        """The characters of each word, with its boundary.

        Raises:
            CannotSpell: a character that is not among the tokens.
        """
        ids, spelled = self._ids, []
        for place, word in enumerate(text.words(transcript)):
            try:
                spelling = [ids[character] for character in word]
            except KeyError:
                missing = [character for character in dict.fromkeys(word) if character not in ids]
                raise CannotSpell(
                    f"{what}: {word!r} has {', '.join(map(repr, missing))}, not among the {len(ids)} characters of the tokenizer, so {transcript!r} "
                    "cannot be spelled; normalize the text (inventory.text), or leave out the cut",
                    missing,
                ) from None
            begin = self.boundary == WORD_BEGIN or place
            mark = () if self._boundary_id is None or not begin else (self._boundary_id,)
            spelled.append([(*mark, *spelling)])
        return spelled

    def decode(self, ids: Sequence[int]) -> str:
        """The words of tokens; what spells nothing is left out."""
        return " ".join(text.words("".join(self._shown(ids))))

    def _shown(self, ids: Sequence[int]) -> Iterator[str]:
        for number in ids:
            token = self.tokens[number]
            if token == self.boundary and token:
                yield " "
            elif token not in SPECIAL:
                yield token


def table_of_characters(transcripts: Iterable[str]) -> tuple[str, ...]:
    """A table for transcripts: the blank, the word boundary `▁`, and every character in them, sorted.

    Raises:
        CorpusError: the transcripts have no characters, or have the boundary among them.
    """
    found = {character for transcript in transcripts for word in text.words(transcript) for character in word}
    if not found:
        raise CorpusError("the corpus has no transcripts with text; tokens are made of text")
    if WORD_BEGIN in found:
        raise CorpusError(
            f"a transcript has {WORD_BEGIN!r}, which marks the beginning of words and so cannot be a character; replace it"
        )
    return (BLANK, WORD_BEGIN, *sorted(found))
