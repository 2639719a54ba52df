"""Decoding graphs: loops of words and n-gram grammars; occupancies of their classes."""

from asrkd.graphs.forward_backward import ForwardBackward
from asrkd.graphs.graph import DecodingGraph, scaled_costs, word_loop_graph
from asrkd.graphs.ngram import k2_graph, ngram_graph, topology_of

__all__ = [
    "DecodingGraph",
    "ForwardBackward",
    "k2_graph",
    "ngram_graph",
    "scaled_costs",
    "topology_of",
    "word_loop_graph",
]
