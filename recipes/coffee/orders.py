"""The sentences of the corpus: its `grammar.yaml` as an acceptor of words."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import kaldifst
import numpy as np
import yaml

from asrkd.errors import CorpusError

# One word in the transcripts, which do not tell the two apart.
SAME = {"AN": "A"}
Arc = tuple[int, int, str]


def spelled(words: str) -> list[str]:
    """Words as the transcripts have them."""
    return [SAME.get(word, word) for word in words.upper().split()]


def expressions(path: Path) -> Iterator[list[list[list[str]]]]:
    """The grammar's sentences, each a list of places with what may be said there, in words.

    Raises:
        CorpusError: the file is of another form.
    """
    try:
        context = yaml.safe_load(path.read_text(encoding="utf-8"))["context"]
        slots = {name: [spelled(one) for one in values] for name, values in context["slots"].items()}
        for line in itertools.chain.from_iterable(context["expressions"].values()):
            places = []
            # Alternatives in brackets, a slot, or a word.
            for choice, slot, word in re.findall(r"\[([^\]]*)\]|\$(\w+):\w+|([^\s\[\]$]+)", line):
                if choice:
                    places.append(
                        [list(one) for one in dict.fromkeys(tuple(spelled(one)) for one in choice.split(","))]
                    )
                else:
                    places.append(slots[slot] if slot else [spelled(word)])
            yield places
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f"{str(path)!r} is not the corpus's grammar: {error!r}") from None


class Grammar:
    """All sentences as an acceptor that is deterministic, of few states and without loops.

    Attributes:
        arcs: (from, to, word), sorted, the start is 0.
        ends: states to end in.
    """

    def __init__(self, sentences: Sequence[list[list[list[str]]]]) -> None:
        numbers: dict[str, int] = {}
        fst = kaldifst.StdVectorFst()
        fst.start = start = int(fst.add_state())
        for places in sentences:
            state = start
            for choices in places:
                after = int(fst.add_state())
                for words in choices:
                    here = state
                    for word in words:
                        there = after if word is words[-1] else int(fst.add_state())
                        label = numbers.setdefault(word, len(numbers) + 1)
                        fst.add_arc(here, kaldifst.StdArc(label, label, 0.0, there))
                        here = there
                state = after
            fst.set_final(state, 0.0)
        small = kaldifst.determinize(fst)
        kaldifst.minimize(small)
        words = {number: word for word, number in numbers.items()}
        order = {int(small.start): 0}
        self.arcs: list[Arc] = []
        self.ends: set[int] = set()
        for state in (waiting := [int(small.start)]):
            if small.final(state).value == 0.0:
                self.ends.add(order[state])
            for arc in sorted(kaldifst.ArcIterator(small, state), key=lambda one: words[one.ilabel]):
                target = int(arc.nextstate)
                if target not in order:
                    order[target] = len(order)
                    waiting.append(target)
                self.arcs.append((order[state], order[target], words[arc.ilabel]))

    @classmethod
    def read(cls, path: Path) -> Grammar:
        return cls(list(expressions(path)))

    @property
    def words(self) -> list[str]:
        return sorted({word for _, _, word in self.arcs})

    def sentence(self, rng: np.random.Generator) -> str:
        """A sentence by a random path; an arc is as likely as every other one out of its state, and so is the end."""
        words, state = [], 0
        while True:
            options = [(target, word) for source, target, word in self.arcs if source == state]
            chosen = int(rng.integers(len(options) + (state in self.ends)))
            if chosen == len(options):
                return " ".join(words)
            state, word = options[chosen]
            words.append(word)

    def text(self) -> str:
        """The acceptor as `asrkd decode --grammar NAME.fst.txt` takes it."""
        lines = [f"{source} {target} {word}" for source, target, word in self.arcs]
        return "\n".join([*lines, *map(str, sorted(self.ends))]) + "\n"
