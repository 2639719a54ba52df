"""Decoding graphs: from lexicon, topology and grammar to one weighted transducer (kaldifst).

The graph is HLG (Mohri, Pereira & Riley 2002): input labels are class id + 1, output labels are word ids, weights are
costs (negative natural logarithms).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import kaldifst

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer, decode_names, vocabulary
from asrkd.corpus.topology import NOTHING
from asrkd.errors import MismatchError


@dataclass(frozen=True)
class DecodingGraph:
    """A compiled graph and the words that its output labels stand for (label 0 is epsilon)."""

    fst: kaldifst.StdVectorFst
    words: tuple[str, ...]
    inventory: Inventory
    tokenizer: Tokenizer

    def text(self, words: Sequence[str]) -> str:
        """The text of a path's words, which are tokens where the tokenizer has no list of words."""
        if self.tokenizer.words is not None:
            return " ".join(words)
        return decode_names(self.tokenizer, words)

    def check(self, inventory: Inventory) -> None:
        """Raise `MismatchError` unless the model's inventory is the one that the graph was built for."""
        if inventory != self.inventory:
            raise MismatchError(
                f"the graph was built for {len(self.inventory)} units of topology {self.inventory.topology_name!r}, the "
                f"model has {len(inventory)} units of topology {inventory.topology_name!r} or other names; build the graph from "
                "the model's own inventory"
            )


def scaled_costs(fst: kaldifst.StdVectorFst, scale: float) -> kaldifst.StdVectorFst:
    """A copy with all costs, of arcs and of states to end in, times `scale`."""
    scaled = kaldifst.StdVectorFst()
    for _ in kaldifst.StateIterator(fst):
        scaled.add_state()
    scaled.start = fst.start
    for state in kaldifst.StateIterator(fst):
        for arc in kaldifst.ArcIterator(fst, state):
            scaled.add_arc(state, kaldifst.StdArc(arc.ilabel, arc.olabel, scale * arc.weight.value, arc.nextstate))
        if math.isfinite(final := fst.final(state).value):
            scaled.set_final(state, scale * final)
    return scaled


def word_loop_graph(
    lexicon: Tokenizer,
    inventory: Inventory,
    *,
    word_costs: Mapping[str, float] | None = None,
    insertion_penalty: float = 0.0,
    self_loop_cost: float = 0.0,
    leave_early: bool = False,
) -> DecodingGraph:
    """Any sequence of the lexicon's words.

    Words share their beginnings (a lexicon tree); the word comes out on the arc that enters its last class, and every arc takes a frame. Between
    words `hmm` graphs allow silence; `ctc` graphs allow blanks, and demand one between two equal tokens.

    Args:
        word_costs: cost of each word; default log(number of words), and 0 for the tokens of `ctc` where any word can be spelled.
        insertion_penalty: added to the cost of every word; above 0 gives fewer words.
        self_loop_cost: cost of staying one more frame in a class that is not silence or blank.
        leave_early: an `hmm` phone may end after any of its states, so that one frame is enough for it; natural phones are often
            shorter than two frames of 30 ms.
    """
    fst = kaldifst.StdVectorFst()
    start = int(fst.add_state())
    fst.start = start
    fst.set_final(state=start, weight=0.0)
    topology, spelled = inventory.topology, vocabulary(lexicon)
    # Between equal tokens there must be a frame of nothing, and between any two there may be one.
    separated = topology.collapses_repeats

    def arc(source: int, target: int, ilabel: int = 0, olabel: int = 0, cost: float = 0.0) -> None:
        fst.add_arc(source, kaldifst.StdArc(ilabel, olabel, cost, target))

    arc(start, start, NOTHING + 1)

    def left_early(labels: tuple[int, ...]) -> list[tuple[int, ...]]:
        return topology.early_ends(labels) if leave_early else []

    def endings(phones: Sequence[str]) -> list[tuple[int, ...]]:
        labels = tuple(inventory.ids(phones))
        return [labels, *left_early(labels)]

    # A word ends in a state of its last class, which all words of that class share. From there, as from the start, words begin.
    lasts = sorted({labels[-1] for spellings in spelled.values() for phones in spellings for labels in endings(phones)})
    ends = {last: int(fst.add_state()) for last in lasts}
    for last, end in ends.items():
        fst.set_final(state=end, weight=0.0)
        arc(end, end, last + 1, cost=self_loop_cost)
        arc(end, start, NOTHING + 1)
    # A node of the tree is the classes emitted since the word began; in `blanks`, with blanks behind them.
    nodes: dict[tuple[int, ...], int] = {}
    blanks: dict[tuple[int, ...], int] = {}

    def entries(before: tuple[int, ...], label: int) -> list[int]:
        """The states in which a class may come behind others of its word."""
        if not before:
            return [start, *(end for last, end in ends.items() if not separated or last != label)]
        found = [node_of(before)] if not separated or before[-1] != label else []
        if topology.begins_token(label):
            found += [node_of(early) for early in left_early(before)]
        if separated:
            if before not in blanks:
                blank = blanks[before] = int(fst.add_state())
                arc(node_of(before), blank, NOTHING + 1)
                arc(blank, blank, NOTHING + 1)
            found.append(blanks[before])
        return found

    def node_of(labels: tuple[int, ...]) -> int:
        if labels not in nodes:
            node = nodes[labels] = int(fst.add_state())
            arc(node, node, labels[-1] + 1, cost=self_loop_cost)
            for source in entries(labels[:-1], labels[-1]):
                arc(source, node, labels[-1] + 1)
        return nodes[labels]

    words = ("<eps>", *spelled)
    # Of tokens that collapse, the best path is then that of the best class of each frame.
    free = lexicon.words is None and separated
    uniform = 0.0 if free else math.log(len(spelled))
    for number, word in enumerate(words[1:], 1):
        cost = (word_costs or {}).get(word, uniform) + insertion_penalty
        for phones in spelled[word]:
            for labels in endings(phones):
                for source in entries(labels[:-1], labels[-1]):
                    arc(source, ends[labels[-1]], labels[-1] + 1, number, cost)
    return DecodingGraph(fst, words, inventory, lexicon)
