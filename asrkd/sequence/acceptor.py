"""Grammars of sentences: a weighted acceptor of words, in the text form of OpenFst."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from asrkd import text
from asrkd.errors import CorpusError

SUFFIX = ".fst.txt"


def is_acceptor(path: str | Path) -> bool:
    """Whether a grammar is an acceptor (`NAME.fst.txt`) and not an ARPA file."""
    return str(path).endswith(SUFFIX)


def acceptor_arcs(path: str | Path) -> tuple[list[tuple[int, int, str]], list[int]]:
    """Arcs (from, to, word) and the states to end in, without costs.

    Raises:
        CorpusError: as `acceptor_text`.
    """
    lines = _lines(path)
    arcs = [(int(fields[0]), int(fields[1]), fields[2]) for fields in lines if len(fields) > 2]
    return arcs, [int(fields[0]) for fields in lines if len(fields) <= 2]


def acceptor_words(path: str | Path) -> list[str]:
    """The words of an acceptor, in order of their first arcs.

    Raises:
        CorpusError: as `acceptor_text`.
    """
    return list(dict.fromkeys(fields[2] for fields in _lines(path) if len(fields) > 2))


def acceptor_text(path: str | Path, words: Sequence[str]) -> str:
    """An acceptor of words as the text of an OpenFst transducer of word numbers: lines `FROM TO WORD [COST]`, and `STATE [COST]` for states to end
    in; the first line leaves the first state. Words are compared in Unicode's composed form (NFC).

    Args:
        words: word n at n - 1.

    Raises:
        CorpusError: a line of another form, a word that is not among `words`, or no state to end in.
    """
    numbers = {unicodedata.normalize("NFC", word): number for number, word in enumerate(words, 1)}
    lines, ends = [], 0
    for fields in _lines(path):
        if len(fields) <= 2:
            ends += 1
            lines.append(" ".join(fields))
            continue
        source, target, word, *cost = fields
        number = numbers.get(unicodedata.normalize("NFC", word))
        if number is None:
            raise CorpusError(
                f"grammar {str(path)!r} has the word {word!r}, which the lexicon cannot spell, so it could never be recognized; add it to the "
                "lexicon, or leave out its sentences"
            )
        lines.append(" ".join([source, target, str(number), str(number), *cost]))
    if not ends:
        raise CorpusError(
            f"grammar {str(path)!r} has no state to end in (a line with a state alone), so it has no sentence"
        )
    return "\n".join(lines)


def _lines(path: str | Path) -> list[list[str]]:
    """The fields of the lines that are not empty."""
    found = []
    for number, line in enumerate(text.lines(text.read(Path(path))), 1):
        fields = text.words(line)
        if not fields:
            continue
        states, costs = (fields[:2], fields[3:]) if len(fields) > 2 else (fields[:1], fields[1:])
        if len(fields) > 4 or not all(state.isdecimal() for state in states) or not all(map(_is_cost, costs)):
            raise CorpusError(
                f"grammar {str(path)!r}, line {number}: {line.strip()!r} is neither an arc, FROM TO WORD [COST], nor a state to end in, STATE [COST], "
                "with states as whole numbers and costs as numbers"
            )
        found.append(fields)
    if not found:
        raise CorpusError(f"grammar {str(path)!r} is empty; give lines of arcs, FROM TO WORD [COST]")
    return found


def _is_cost(value: str) -> bool:
    try:
        return not math.isnan(float(value))
    except ValueError:
        return False
