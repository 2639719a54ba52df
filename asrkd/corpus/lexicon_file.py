"""Lexicon files in the forms that are in use: Kaldi's `lexicon.txt`, `lexiconp.txt`, `lexiconp_silprob.txt`, and CMUdict."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from asrkd import text
from asrkd.errors import CorpusError

_log = logging.getLogger(__name__)
_NUMBER = re.compile(r"\d*\.?\d+(?:[eE][-+]?\d+)?|\d+\.")
_DISAMBIGUATION = re.compile(r"#\d+")
_ALTERNATIVE = re.compile(r"(.+)\(\d+\)")
# Columns of numbers after the word: probability; and with those of silence after and before it.
_KINDS = {0: "lexicon", 1: "lexiconp", 4: "lexiconp_silprob"}
_NAMED = (("lexiconp_silprob", 4), ("lexiconp", 1))

Row = tuple[int, str, list[str]]


def read_rows(path: str | Path, *, name: str = "") -> list[Row]:
    """(number, word, phones) of each line, without what is neither.

    Left out, and told once by a warning: comments (lines that begin with `;;;`, and ` # ...` after the phones), probabilities
    (see `_numbers`), disambiguation symbols (`#1` after the phones), and the number of an alternative (`WORD(2)` of a file that
    has `WORD`).

    Args:
        name: of the file, where that is not in `path`; one that begins with `lexiconp` says its form.

    Raises:
        CorpusError: the file cannot be read, a line without phones, or one that can be taken in two ways; the message names
            the line.
    """
    what = f"lexicon {str(path)!r}"
    rows, told = _without_comments(path, what)
    count = _numbers(rows, name or Path(path).name, what)
    if count:
        told.append(
            f"the probabilities of pronunciations ({_KINDS[count]}.txt) are not used: all of a word are equally likely"
        )
    known = {word for _, word, _ in rows}
    found: list[Row] = []
    marked = alternatives = 0
    for number, word, fields in rows:
        phones = fields[count:]
        while phones and _DISAMBIGUATION.fullmatch(phones[-1]):
            phones.pop()
        marked += len(phones) + count < len(fields)
        if not phones:
            raise CorpusError(f"{what} line {number}: word {word!r} has no phones")
        if stray := next((phone for phone in phones if "." in phone and _NUMBER.fullmatch(phone)), None):
            raise CorpusError(
                f"{what} line {number}: {stray!r} of word {word!r} looks like a probability, but not every line has one there, so it "
                "may be a phone; give every line a probability, or none"
            )
        other = _ALTERNATIVE.fullmatch(word)
        if other and other[1] in known:
            word, alternatives = other[1], alternatives + 1
        found.append((number, word, phones))
    told += [f"disambiguation symbols were left out of {marked} lines"] * bool(marked)
    told += [f"{alternatives} words with a number in brackets are alternatives of the word without it"] * bool(
        alternatives
    )
    if told:
        _log.warning("%s: %s", what, "; ".join(told))
    return found


def _without_comments(path: str | Path, what: str) -> tuple[list[Row], list[str]]:
    rows, lines, behind = [], 0, 0
    for number, line in text.numbered_lines(path, what="lexicon"):
        word, *fields = text.words(line)
        if word.startswith(";;;"):
            lines += 1
            continue
        if word == "#" or fields[-1:] == ["#"]:
            raise CorpusError(
                f"{what} line {number} has the sign '#' for itself, which may be a comment, a word or a phone; begin comments with ;;; "
                "or give it another name"
            )
        if "#" in fields:
            fields, behind = fields[: fields.index("#")], behind + 1
        rows.append((number, word, fields))
    told = [f"{lines} lines of comments (;;;) were passed over"] * bool(lines)
    return rows, told + [f"comments (#) were left out of {behind} lines"] * bool(behind)


def _numbers(rows: Sequence[Row], name: str, what: str) -> int:
    """How many columns of numbers there are between the words and the phones.

    A column counts where every line has a number in it, with phones behind, and some line has one with a point: phones may be
    digits. In a file that is named `lexiconp...` its numbers need no point.

    Raises:
        CorpusError: a number of columns that no form has, a probability outside (0, 1], or a file that may be of two forms.
    """
    count, named = 0, next((count for start, count in _NAMED if name.startswith(start)), 0)
    while rows and all(len(fields) > count + 1 and _NUMBER.fullmatch(fields[count]) for _, _, fields in rows):
        if count >= named and not any("." in fields[count] for _, _, fields in rows):
            break
        count += 1
    if rows and count < named:
        number, word, fields = next(
            row for row in rows if len(row[2]) < count + 2 or not _NUMBER.fullmatch(row[2][count])
        )
        raise CorpusError(
            f"{what} line {number}: word {word!r} has {' '.join(fields)!r} behind it, where the file's name promises {named} "
            "numbers and phones"
        )
    if count not in _KINDS:
        raise CorpusError(
            f"{what} has {count} columns of numbers after the words; lexiconp.txt has 1 and lexiconp_silprob.txt has 4, so it is not "
            "clear where phones begin"
        )
    if not count and rows and all(len(fields) > 1 and fields[0] == "1" for _, _, fields in rows):
        raise CorpusError(
            f"{what} has '1' after every word, which may be a probability or a phone; write 1.0, or name the phone otherwise"
        )
    for number, word, fields in rows if count else ():
        if not 0 < float(fields[0]) <= 1:
            raise CorpusError(
                f"{what} line {number}: word {word!r} has the probability {fields[0]}, which is not in (0, 1]"
            )
    return count
