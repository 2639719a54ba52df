"""Graphs that audio runs through: for decoding (HLG), for a transcript (numerators) and for all that could be said (denominators)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asrkd.errors import CorpusError
from asrkd.sequence.dependency import import_k2
from asrkd.sequence.lexicon import Pronunciations, disambiguated, lexicon_arcs, lexicon_transducer


def decoding_graph(
    topology: Any,
    pronunciations: Pronunciations,
    grammar: Any,
    *,
    num_tokens: int,
    num_words: int,
    silence: int | None = None,
    silence_probability: float = 0.5,
) -> Any:
    """HLG: H o det(L o G), with no epsilon among its labels (Mohri, Pereira & Riley 2002, section 3).

    Args:
        topology: H, from classes to tokens.
        grammar: G, an acceptor or transducer of words, whose back-off arcs have the label num_words + 1 (`grammar.ngram`).
        silence: the token of optional silence.

    Returns:
        An Fsa whose labels are classes and whose `aux_labels` are words.

    Raises:
        CorpusError: no word sequence is left.
    """
    k2 = import_k2()
    first = num_tokens + 1
    spelled = disambiguated(pronunciations, first + 2)
    lexicon = lexicon_transducer(
        *lexicon_arcs(
            spelled,
            silence=silence,
            silence_probability=silence_probability,
            silence_end=first + 1,
            backoff=(first, num_words + 1),
        )
    )
    graph = k2.connect(k2.compose(k2.arc_sort(lexicon), k2.arc_sort(grammar)))
    if not graph.num_arcs:
        raise CorpusError("no sentence of the grammar can be spelled with the lexicon, so the decoding graph is empty")
    graph = k2.connect(k2.determinize(graph))
    labels = graph.labels.clone()
    labels[labels >= first] = 0
    graph.labels = labels
    graph = k2.connect(k2.remove_epsilon(_without_backoff(graph, num_words)))
    graph = k2.compose(k2.arc_sort(topology), k2.arc_sort(graph))
    return k2.arc_sort(k2.connect(graph))


def _without_backoff(graph: Any, num_words: int) -> Any:
    """The graph with the back-off word taken out of its outputs."""
    if isinstance(graph.aux_labels, import_k2().RaggedTensor):
        words = graph.aux_labels
        graph.aux_labels = words.remove_values_eq(num_words + 1).remove_values_eq(0)
    else:
        words = graph.aux_labels.clone()
        words[words == num_words + 1] = 0
        graph.aux_labels = words
    return graph


def transcript_acceptor(spelled: Sequence[Sequence[Sequence[int]]], *, silence: int | None = None) -> Any:
    """Every way to say a transcript: the pronunciations of each word, with optional silence before and after each.

    Args:
        spelled: for each word, its pronunciations as tokens.

    Raises:
        CorpusError: an empty transcript, or a word without tokens.
    """
    if not spelled or not all(spellings and all(spellings) for spellings in spelled):
        raise CorpusError("a transcript is empty, or has a word without tokens, so it cannot be trained on")
    arcs: list[tuple[int, int, int]] = []
    number = 1
    ends = [0]
    for spellings in [*spelled, None]:
        if silence is not None:
            arcs += [(end, number, silence) for end in ends]
            ends, number = [*ends, number], number + 1
        if spellings is None:
            break
        after, number = number, number + 1
        for tokens in spellings:
            sources = ends
            for token in tokens[:-1]:
                arcs += [(source, number, token) for source in sources]
                sources, number = [number], number + 1
            arcs += [(source, after, tokens[-1]) for source in sources]
        ends = [after]
    arcs += [(end, number, -1) for end in ends]
    lines = [f"{a} {b} {label} 0" for a, b, label in sorted(arcs)]
    k2 = import_k2()
    return k2.arc_sort(k2.top_sort(k2.Fsa.from_str("\n".join([*lines, str(number)]))))


def numerators(topology: Any, acceptors: Sequence[Any], phone_lm: Any | None = None) -> Any:
    """An FsaVec with one graph a transcript: H o transcript, each path with its phone language model's score if one is given.

    A transcript that the phone language model does not allow gives a graph without paths.
    """
    k2 = import_k2()
    made = []
    for acceptor in acceptors:
        if phone_lm is not None:
            acceptor = k2.arc_sort(k2.connect(k2.intersect(acceptor, phone_lm, treat_epsilons_specially=False)))
        made.append(_frames_of(topology, acceptor))
    return k2.create_fsa_vec(made)


def denominator(topology: Any, phone_lm: Any) -> Any:
    """H o phone language model: all that could be said, for LF-MMI (Povey et al. 2016, section 3.2)."""
    return _frames_of(topology, phone_lm)


def _frames_of(topology: Any, tokens: Any) -> Any:
    """An acceptor of classes."""
    k2 = import_k2()
    graph = k2.arc_sort(k2.connect(k2.compose(topology, tokens)))
    # Training has no use for outputs.
    if hasattr(graph, "aux_labels"):
        del graph.aux_labels
    return graph
