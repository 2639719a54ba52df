"""The pronunciation lexicon: words and the phones that spell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrkd import files
from asrkd.errors import CorpusError


@dataclass(frozen=True)
class Lexicon:
    """Words and their pronunciations, in the order of the file.

    A word has no white space (a transcript is split at white space); several pronunciations are several lines.
    """

    pronunciations: Mapping[str, tuple[tuple[str, ...], ...]]

    @classmethod
    def read(cls, path: str | Path) -> Lexicon:
        """Read `word phone phone ...` lines (Kaldi's `lexicon.txt`; a tab after the word is fine)."""
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
        except OSError as error:
            raise CorpusError(f"lexicon {str(path)!r} cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise CorpusError(f"lexicon {str(path)!r} is not UTF-8: {error}") from None
        pairs = []
        for number, line in enumerate(lines, 1):
            parts = line.split()
            if not parts:
                continue
            if len(parts) < 2:
                raise CorpusError(f"lexicon {str(path)!r} line {number}: word {parts[0]!r} has no phones")
            pairs.append((parts[0], tuple(parts[1:])))
        return cls.from_pairs(pairs)

    @classmethod
    def from_pairs(cls, pairs: Sequence[tuple[str, Sequence[str]]]) -> Lexicon:
        """Build from (word, phones) pairs.

        Raises:
            CorpusError: no pairs, a word or phone that is empty or has white space in it, or a word without phones.
        """
        table: dict[str, list[tuple[str, ...]]] = {}
        for word, phones in pairs:
            for name in (word, *phones):
                if name.split() != [name]:
                    raise CorpusError(
                        f"lexicon: {name!r} (word {word!r}) is empty or has white space in it, so that no transcript "
                        "could match it"
                    )
            if not phones:
                raise CorpusError(f"lexicon: word {word!r} has no phones, so it cannot be aligned or decoded")
            if tuple(phones) not in table.setdefault(word, []):
                table[word].append(tuple(phones))
        if not table:
            raise CorpusError("the lexicon has no words; nothing could be aligned or decoded with it")
        return cls({word: tuple(spellings) for word, spellings in table.items()})

    @property
    def words(self) -> list[str]:
        return list(self.pronunciations)

    @property
    def phones(self) -> list[str]:
        """The phones in use, sorted."""
        return sorted({phone for spellings in self.pronunciations.values() for phones in spellings for phone in phones})

    def spell(self, text: str, *, what: str = "transcript") -> list[tuple[tuple[str, ...], ...]]:
        """The pronunciations of each word of a transcript.

        Raises:
            CorpusError: a word is not in the lexicon.
        """
        spelled = []
        for word in text.split():
            if word not in self.pronunciations:
                raise CorpusError(
                    f"{what}: word {word!r} is not in the lexicon of {len(self.pronunciations)} words, so {text!r} "
                    "cannot be aligned or scored; add the word or leave out the cut"
                )
            spelled.append(self.pronunciations[word])
        return spelled

    def write(self, path: str | Path) -> None:
        """Write the form that `read` reads."""
        lines = [f"{w}\t{' '.join(p)}\n" for w, spellings in self.pronunciations.items() for p in spellings]
        files.write(path, "".join(lines))
