"""HLG by kaldifst: topology, lexicon and grammar as one graph, without k2 (Mohri, Pereira & Riley 2002, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import kaldifst

from asrkd.errors import CorpusError
from asrkd.sequence.lexicon import Pronunciations, disambiguated, lexicon_arcs
from asrkd.sequence.topology import TokenArc

# Costs that differ by less are one cost when the graph is made smaller; Kaldi's 1/1024 would add up over a sentence.
_DELTA = 1e-5


def compose_hlg(
    topology: tuple[Sequence[TokenArc], Sequence[int]],
    pronunciations: Pronunciations,
    grammar: str,
    *,
    num_tokens: int,
    num_words: int,
    silence: int | None = None,
    silence_probability: float = 0.5,
) -> kaldifst.StdVectorFst:
    """H o min(det(L o G)), whose input labels are class + 1 and whose output labels are words.

    Back-off and disambiguation leave arcs without a class, which decoders follow for free: taking them out would multiply a large graph.

    Args:
        topology: arcs from classes to tokens, and the states to end in (`hmm_arcs`, `ctc_arcs`).
        grammar: the text of an OpenFst transducer of words, whose back-off arcs have the label num_words + 1 (`ngram_text`).
        silence: the token of optional silence.

    Raises:
        CorpusError: no word sequence is left.
    """
    first = num_tokens + 1
    spelled = disambiguated(pronunciations, first + 2)
    arcs, end = lexicon_arcs(
        spelled,
        silence=silence,
        silence_probability=silence_probability,
        silence_end=first + 1,
        backoff=(first, num_words + 1),
    )
    lexicon = _compiled([f"{a} {b} {token} {word} {cost}" for a, b, token, word, cost in arcs], [end])
    kaldifst.arcsort(lexicon, sort_type="olabel")
    words = kaldifst.compile(s=grammar, acceptor=False)
    kaldifst.arcsort(words, sort_type="ilabel")
    graph = kaldifst.compose(lexicon, words)
    if not graph.num_states:
        raise CorpusError("no sentence of the grammar can be spelled with the lexicon, so the decoding graph is empty")
    kaldifst.determinize_star(graph, delta=_DELTA)
    kaldifst.minimize_encoded(graph, delta=_DELTA)
    for state in kaldifst.StateIterator(graph):
        for arc in kaldifst.ArcIterator(graph, state):
            if arc.ilabel >= first:
                arc.ilabel = 0
    kaldifst.arcsort(graph, sort_type="ilabel")
    frames = _compiled([f"{a} {b} {label + 1} {token} 0" for a, b, label, token in topology[0]], topology[1])
    kaldifst.arcsort(frames, sort_type="olabel")
    return kaldifst.compose(frames, graph)


def _compiled(arcs: Sequence[str], ends: Sequence[int]) -> kaldifst.StdVectorFst:
    """From lines of arcs, the first of which leaves the first state."""
    return kaldifst.compile(s="\n".join([*arcs, *(f"{end} 0" for end in ends)]), acceptor=False)
