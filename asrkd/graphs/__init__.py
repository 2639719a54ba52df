"""Decoding graphs: loops of words (kaldifst) and n-gram grammars (k2); occupancies of their classes."""

from asrkd.graphs.forward_backward import ForwardBackward
from asrkd.graphs.graph import DecodingGraph, word_loop_graph
from asrkd.graphs.ngram import k2_graph, ngram_graph, topology_of

__all__ = ["DecodingGraph", "ForwardBackward", "k2_graph", "ngram_graph", "topology_of", "word_loop_graph"]
