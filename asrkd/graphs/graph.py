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

    Words share their beginnings (a lexicon tree); the word comes out on the arc that leaves its last class. Between
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
    # A node of the tree is the classes emitted since the word began; `roots` are the starts of words, by the token
    # that may not come next without a blank (-1: any may).
    nodes: dict[tuple[int, ...], int] = {}
    blanks: dict[tuple[int, ...], int] = {}
    roots = {-1: start}
    if separated:
        for last in sorted({inventory.ids(phones[-1:])[0] for word in spelled.values() for phones in word}):
            roots[last] = int(fst.add_state())
            fst.set_final(state=roots[last], weight=0.0)
            arc(roots[last], start, NOTHING + 1)

    def left_early(labels: tuple[int, ...]) -> list[tuple[int, ...]]:
        return topology.early_ends(labels) if leave_early else []

    def node_of(labels: tuple[int, ...]) -> int:
        if labels in nodes:
            return nodes[labels]
        *before, label = labels
        node = nodes[labels] = int(fst.add_state())
        arc(node, node, label + 1, cost=self_loop_cost)
        if not before:
            for last, root in roots.items():
                if last != label:
                    arc(root, node, label + 1)
        else:
            previous = node_of(tuple(before))
            if not separated or before[-1] != label:
                arc(previous, node, label + 1)
            if topology.begins_token(label):
                for early in left_early(tuple(before)):
                    arc(node_of(early), node, label + 1)
            if separated:
                if tuple(before) not in blanks:
                    blank = blanks[tuple(before)] = int(fst.add_state())
                    arc(previous, blank, NOTHING + 1)
                    arc(blank, blank, NOTHING + 1)
                arc(blanks[tuple(before)], node, label + 1)
        return node

    words = ("<eps>", *spelled)
    # Of tokens that collapse, the best path is then that of the best class of each frame.
    free = lexicon.words is None and separated
    uniform = 0.0 if free else math.log(len(spelled))
    for number, word in enumerate(words[1:], 1):
        cost = (word_costs or {}).get(word, uniform) + insertion_penalty
        for phones in spelled[word]:
            labels = tuple(inventory.ids(phones))
            for end in (labels, *left_early(labels)):
                arc(node_of(end), roots[labels[-1]] if separated else start, 0, number, cost)
    return DecodingGraph(fst, words, inventory, lexicon)
