"""The sentence of a grammar that is nearest to a text: for teachers that write freely what can only be one of some sentences."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import kaldialign

from asrkd import text
from asrkd.errors import CorpusError
from asrkd.sequence.acceptor import acceptor_arcs

# How far a sentence is from the text, and its words.
Reading = tuple[float, tuple[str, ...]]


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

    def nearest(self, said: str) -> tuple[str, float]:
        """The sentence nearest to a text, and how far it is: 1 for each word left out or put in, for another word the share of its letters that
        differ. Of several the first by its words."""
        given = text.words(text.normal(said))
        # Of a state, for each number of words read.
        best: dict[int, list[Reading]] = {self._start: [(float(read), ()) for read in range(len(given) + 1)]}
        for state in self._order:
            for target, word in self._leaving.get(state, []):
                found = _after(best[state], given, word)
                known = best.get(target)
                best[target] = found if known is None else [min(pair) for pair in zip(known, found, strict=True)]
        distance, sentence = min(best[state][-1] for state in self._ends)
        return " ".join(sentence), distance

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


def _after(before: Sequence[Reading], given: Sequence[str], word: str) -> list[Reading]:
    """The readings of a state behind an arc."""
    found: list[Reading] = []
    for read, (distance, words) in enumerate(before):
        options = [(distance + 1, (*words, word))]
        if read:
            distance, words = before[read - 1]
            options.append((distance + _difference(given[read - 1], word), (*words, word)))
            options.append((found[-1][0] + 1, found[-1][1]))
        found.append(min(options))
    return found


@functools.lru_cache(maxsize=10_000)
def _difference(one: str, other: str) -> float:
    return float(kaldialign.edit_distance(list(one), list(other))["total"]) / max(len(one), len(other))
