"""How transcripts are normalized before they are spelled, and references before they are scored."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from asrkd import text
from asrkd.config import check, setting

# Within a word, as in "don't"; typographic ones become the plain one.
_APOSTROPHES = "'\u2019\u02bc\uff07"


@dataclass(frozen=True)
class TextRules:
    """Normalization of transcripts, before they are spelled and scored: Unicode's form first, then case, then punctuation."""

    case: str = setting("keep", one_of=("keep", "lower", "upper"))
    """`keep`, `lower` or `upper`."""
    punctuation: str = setting("keep", one_of=("keep", "remove"))
    """`keep`, or `remove` to put a space in place of punctuation, but for apostrophes within words."""
    form: str = setting("nfc", one_of=("none", "nfc", "nfkc"))
    """Unicode's form: `nfc` (composed), `nfkc` (composed, with compatible characters such as full-width letters replaced) or `none`; words of a lexicon are always looked up in `nfc`."""

    def __post_init__(self) -> None:
        check(self, "inventory.text")

    def __call__(self, transcript: str) -> str:
        """The transcript by these rules, its words separated by single spaces."""
        said = self._form(transcript)
        if self.case != "keep":
            said = self._form(said.lower() if self.case == "lower" else said.upper())
        if self.punctuation == "remove":
            said = "".join(_spoken(said, place) for place in range(len(said)))
        return " ".join(text.words(said))

    def _form(self, said: str) -> str:
        if self.form == "none" or said.isascii():
            return said
        return unicodedata.normalize("NFC" if self.form == "nfc" else "NFKC", said)


def _spoken(said: str, place: int) -> str:
    """A character without punctuation."""
    character = said[place]
    if character in _APOSTROPHES:
        within = 0 < place < len(said) - 1 and _in_word(said[place - 1]) and _in_word(said[place + 1])
        return "'" if within else " "
    return " " if unicodedata.category(character)[0] == "P" else character


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"
