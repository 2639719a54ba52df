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
    free_arcs: bool = True,
) -> kaldifst.StdVectorFst:
    """H o min(det(L o G)), whose input labels are class + 1 and whose output labels are words.

    Back-off and disambiguation leave arcs without a class, which decoders follow for free.

    Args:
        topology: arcs from classes to tokens, and the states to end in (`hmm_arcs`, `ctc_arcs`).
        grammar: the text of an OpenFst transducer of words, whose back-off arcs have the label num_words + 1 (`ngram_text`).
        silence: the token of optional silence.
        free_arcs: leave those arcs; otherwise every arc takes a frame, and words are on the first frame of a token. The graph grows.

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
    if not free_arcs:
        graph = _without_free_arcs(graph)
    kaldifst.arcsort(graph, sort_type="ilabel")
    frames = _compiled([f"{a} {b} {label + 1} {token} 0" for a, b, label, token in topology[0]], topology[1])
    kaldifst.arcsort(frames, sort_type="olabel")
    return kaldifst.compose(frames, graph)


def _without_free_arcs(fst: kaldifst.StdVectorFst) -> kaldifst.StdVectorFst:
    """The arcs without a token joined with those that enter the states that they leave; at the start, with those that come next.

    An arc holds one word, so a word on an arc without a token stays there where the token before it has one.
    """
    arcs: list[list[tuple[int, int, int, float]]] = []
    free: list[list[tuple[int, int, float]]] = []
    for state in range(fst.num_states):
        found = [
            (int(a.nextstate), int(a.ilabel), int(a.olabel), float(a.weight.value))
            for a in kaldifst.ArcIterator(fst, state)
        ]
        arcs.append([arc for arc in found if arc[1]])
        free.append([(target, word, cost) for target, token, word, cost in found if not token])
    if not any(free):
        return fst
    closures = {state: _closure(free, state) for state in range(len(free)) if free[state]}
    joined = kaldifst.StdVectorFst()
    kept: set[int] = set()
    for state in range(len(arcs)):
        joined.add_state()
        joined.set_final(state=state, weight=float(fst.final(state).value))
    for state, leaving in enumerate(arcs):
        for target, token, word, cost in leaving:
            joined.add_arc(state, kaldifst.StdArc(token, word, cost, target))
            for place, behind, more in closures.get(target, ()):
                if word and behind:
                    kept.add(target)
                else:
                    joined.add_arc(state, kaldifst.StdArc(token, word or behind, cost + more, place))
    start = int(fst.start)
    joined.start = start
    for place, behind, more in closures.get(start, ()):
        if behind:
            kept.add(start)
            continue
        joined.set_final(
            state=start, weight=min(float(joined.final(start).value), more + float(fst.final(place).value))
        )
        for target, token, word, cost in arcs[place]:
            joined.add_arc(start, kaldifst.StdArc(token, word, more + cost, target))
    for state in kept:
        for place, behind, more in closures[state]:
            if behind:
                joined.add_arc(state, kaldifst.StdArc(0, behind, more, place))
    kaldifst.connect(joined)
    return joined


def _closure(free: Sequence[Sequence[tuple[int, int, float]]], state: int) -> list[tuple[int, int, float]]:
    """(target, word, cost) of all that arcs without a token reach from a state, the cheapest way for each target and word."""
    best: dict[tuple[int, int], float] = {}
    waiting = [(state, 0, 0.0)]
    while waiting:
        place, word, cost = waiting.pop()
        for target, behind, more in free[place]:
            if word and behind:
                raise CorpusError(
                    "words without tokens of their own follow each other in the grammar; give each word a pronunciation"
                )
            key = (target, word or behind)
            if cost + more < best.get(key, float("inf")):
                best[key] = cost + more
                waiting.append((*key, cost + more))
    return [(target, word, cost) for (target, word), cost in best.items()]


def _compiled(arcs: Sequence[str], ends: Sequence[int]) -> kaldifst.StdVectorFst:
    """From lines of arcs, the first of which leaves the first state."""
    return kaldifst.compile(s="\n".join([*arcs, *(f"{end} 0" for end in ends)]), acceptor=False)
