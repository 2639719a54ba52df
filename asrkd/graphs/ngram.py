"""Decoding graphs with an n-gram language model; and any decoding graph as k2 takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer, vocabulary
from asrkd.corpus.tokens import Tokens
from asrkd.graphs.graph import DecodingGraph
from asrkd.sequence.acceptor import acceptor_text, is_acceptor
from asrkd.sequence.grammar import ngram_text
from asrkd.sequence.hlg import compose_hlg
from asrkd.sequence.openfst import from_openfst
from asrkd.sequence.topology import ctc_arcs, ctc_topology, hmm_arcs, hmm_topology


def topology_of(inventory: Inventory, *, leave_early: bool = False) -> Any:
    """H as a k2 Fsa; `leave_early`: an `hmm` phone may end after any of its states."""
    if inventory.topology.collapses_repeats:
        return ctc_topology(len(inventory))
    return hmm_topology(Tokens.of(inventory).states, leave_early=leave_early)


def k2_graph(graph: DecodingGraph) -> Any:
    """A decoding graph as k2 takes it, without epsilons.

    Raises:
        DependencyError: k2 is not installed.
    """
    return from_openfst(graph.fst.to_str(show_weight_one=True, fst_field_separator=" "))


def ngram_graph(
    lexicon: Tokenizer,
    inventory: Inventory,
    arpa: str | Path,
    *,
    silence_probability: float = 0.5,
    leave_early: bool = False,
    free_arcs: bool = True,
) -> DecodingGraph:
    """HLG with the language model of an ARPA file, or a grammar of sentences (`asrkd.sequence.acceptor`). Words of the language model that the lexicon
    does not have are left out, with a warning.

    Args:
        silence_probability: of silence at the beginning and after each word, for `hmm`.
        leave_early: an `hmm` phone may end after any of its states, so that one frame is enough for it.
        free_arcs: see `compose_hlg`.

    Raises:
        CorpusError: an ARPA file that cannot be used or that has none of the lexicon's words, or a grammar that cannot be used.
        DependencyError: kaldilm is not installed.
    """
    tokens, words = Tokens.of(inventory), tuple(vocabulary(lexicon))
    if inventory.topology.collapses_repeats:
        topology = ctc_arcs(len(inventory))
    else:
        topology = hmm_arcs(tokens.states, leave_early=leave_early)
    graph = compose_hlg(
        topology,
        tokens.pronunciations(lexicon),
        acceptor_text(arpa, words) if is_acceptor(arpa) else ngram_text(arpa, words),
        num_tokens=len(tokens.names),
        num_words=len(words),
        silence=tokens.silence,
        silence_probability=silence_probability,
        free_arcs=free_arcs,
    )
    return DecodingGraph(graph, ("<eps>", *words), inventory, lexicon)
