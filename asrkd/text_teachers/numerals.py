"""Tokens with which a text teacher writes numbers in figures, so that it can be made to write words."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable

# Decimal and other digits, fractions, signs of currency. Words for numbers are letters, in Chinese, too.
_FIGURES = frozenset({"Nd", "No", "Sc"})


def numeral_tokens(tokens: Iterable[int], decode: Callable[[list[int]], str]) -> list[int]:
    """Of `tokens` those whose text has a digit, a fraction, a sign of a currency or of percent (WhisperX's `--suppress_numerals`).

    A digit outside ASCII that a tokenizer writes as several tokens of bytes is none of these.

    Args:
        tokens: of text, without the special ones.
        decode: tokens to their text.
    """
    return [token for token in tokens if any(map(_is_figure, decode([token])))]


def _is_figure(character: str) -> bool:
    return character in "%‰" or unicodedata.category(character) in _FIGURES
