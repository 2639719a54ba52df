"""Decoding graphs: loops of words (kaldifst) and n-gram grammars (k2)."""

from asrkd.graphs.graph import DecodingGraph, word_loop_graph
from asrkd.graphs.ngram import k2_graph, ngram_graph, topology_of

__all__ = ["DecodingGraph", "k2_graph", "ngram_graph", "topology_of", "word_loop_graph"]
