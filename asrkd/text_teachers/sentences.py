"""The sentence of a grammar that is nearest to a text: for teachers that write freely what can only be one of some sentences."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import kaldialign

from asrkd import text
from asrkd.errors import CorpusError
from asrkd.sequence.acceptor import acceptor_arcs

# How far a sentence is from the text, and its words.
Reading = tuple[float, tuple[str, ...]]
# The nearest one, and the nearest of other words where there is one.
Readings = list[Reading]

# Distances are sums of shares of letters, in another order for another sentence.
_ROUNDING = 1e-9


class Nearest(NamedTuple):
    """The sentence of a grammar that is nearest to a text.

    Attributes:
        distance: how far it is.
        next_distance: how far the nearest other sentence is; infinite if there is none.
    """

    sentence: str
    distance: float
    next_distance: float

    @property
    def is_ambiguous(self) -> bool:
        """Whether another sentence is as near."""
        return self.next_distance - self.distance < _ROUNDING


class Sentences:
    """Sentences of an acceptor of words (`asrkd.sequence.acceptor`), whose costs do not count here.

    Args:
        arcs: (from, to, word); the first one leaves the state that sentences begin in.
        ends: states to end in.
        name: of the grammar, for messages.

    Raises:
        CorpusError: it has a loop, so no longest sentence, or no sentence.
    """

    def __init__(self, arcs: Sequence[tuple[int, int, str]], ends: Sequence[int], *, name: str) -> None:
        self._start = arcs[0][0] if arcs else 0
        self._leaving: dict[int, list[tuple[int, str]]] = {}
        for source, target, word in arcs:
            self._leaving.setdefault(source, []).append((target, text.normal(word)))
        self._order = self._in_order(name)
        self._ends = [state for state in self._order if state in set(ends)]
        if not self._ends:
            raise CorpusError(f"grammar {name!r} has no sentence: no state to end in is reached from its first arc")

    @classmethod
    def read(cls, path: str | Path) -> Sentences:
        """
        Raises:
            CorpusError: the file cannot be read, or as the class.
        """
        arcs, ends = acceptor_arcs(path)
        return cls(arcs, ends, name=str(path))

    def nearest(self, said: str) -> Nearest:
        """The sentence nearest to a text. The distance is 1 for each word left out or put in, and for another word the share of its letters that
        differ. Of several that are as near, the first by its words."""
        given = text.words(text.normal(said))
        # Of a state, for each number of words read, the nearest readings.
        best: dict[int, list[Readings]] = {self._start: [[(float(read), ())] for read in range(len(given) + 1)]}
        for state in self._order:
            for target, word in self._leaving.get(state, []):
                found = _after(best[state], given, word)
                known = best.get(target)
                best[target] = (
                    found if known is None else [_two(one + other) for one, other in zip(known, found, strict=True)]
                )
        (distance, sentence), *others = _two(reading for state in self._ends for reading in best[state][-1])
        return Nearest(" ".join(sentence), distance, others[0][0] if others else math.inf)

    def _in_order(self, name: str) -> list[int]:
        """States that are reached, each behind all those that lead to it."""
        reached = [self._start]
        for state in reached:
            reached += dict.fromkeys(target for target, _ in self._leaving.get(state, []) if target not in reached)
        entering = dict.fromkeys(reached, 0)
        for state in reached:
            for target, _ in self._leaving.get(state, []):
                entering[target] += 1
        order = [state for state in reached if not entering[state]]
        for state in order:
            for target, _ in self._leaving.get(state, []):
                entering[target] -= 1
                if not entering[target]:
                    order.append(target)
        if len(order) < len(reached):
            raise CorpusError(
                f"grammar {name!r} has a loop, so its sentences have no end; give a grammar of sentences alone"
            )
        return order


def _after(before: Sequence[Readings], given: Sequence[str], word: str) -> list[Readings]:
    """The readings of a state behind an arc."""
    found: list[Readings] = []
    for read, readings in enumerate(before):
        options = [(distance + 1, (*words, word)) for distance, words in readings]
        if read:
            differs = _difference(given[read - 1], word)
            options += [(distance + differs, (*words, word)) for distance, words in before[read - 1]]
            options += [(distance + 1, words) for distance, words in found[-1]]
        found.append(_two(options))
    return found


def _two(readings: Iterable[Reading]) -> Readings:
    """The nearest reading, and the nearest of other words."""
    found: Readings = []
    for reading in sorted(readings):
        if not found or reading[1] != found[0][1]:
            found.append(reading)
        if len(found) == 2:
            break
    return found


@functools.lru_cache(maxsize=10_000)
def _difference(one: str, other: str) -> float:
    return float(kaldialign.edit_distance(list(one), list(other))["total"]) / max(len(one), len(other))
