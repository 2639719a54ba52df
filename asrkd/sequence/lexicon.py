"""L: from tokens to words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from asrkd.errors import CorpusError
from asrkd.sequence.dependency import import_k2

Pronunciations = Sequence[tuple[int, Sequence[int]]]
# From state, to state, token, word, cost.
WordArc = tuple[int, int, int, int, float]


def disambiguated(pronunciations: Pronunciations, first: int) -> list[tuple[int, list[int]]]:
    """Pronunciations with a token from `first` on behind those that occur twice or that begin another.

    Without them the transducer could not be made deterministic (Mohri, Pereira & Riley 2002, section 3.1).
    """
    times = Counter(tuple(tokens) for _, tokens in pronunciations)
    beginnings = {tuple(tokens[:end]) for _, tokens in pronunciations for end in range(1, len(tokens))}
    used: Counter[tuple[int, ...]] = Counter()
    result = []
    for word, tokens in pronunciations:
        key = tuple(tokens)
        if times[key] > 1 or key in beginnings:
            used[key] += 1
            result.append((word, [*key, first + used[key] - 1]))
        else:
            result.append((word, list(key)))
    return result


def lexicon_arcs(
    pronunciations: Pronunciations,
    *,
    silence: int | None = None,
    silence_probability: float = 0.5,
    silence_end: int | None = None,
    backoff: tuple[int, int] | None = None,
) -> tuple[list[WordArc], int]:
    """Any sequence of pronunciations, from tokens to words, with optional silence at the beginning and after each word.

    State 0 is the first. The arcs are in the order of their sources; the state returned with them is the one to end in.

    Args:
        pronunciations: (word, tokens).
        silence: the token of silence; None for none (CTC: blanks separate tokens anyway).
        silence_probability: of silence.
        silence_end: a disambiguation token after each silence.
        backoff: (token, word) of a self-loop between words, where a grammar's back-off arcs are matched.

    Raises:
        CorpusError: no pronunciation, or one without tokens.
    """
    if not pronunciations:
        raise CorpusError("the lexicon has no words; nothing could be decoded with it")
    pause, free = -math.log(silence_probability), -math.log(1 - silence_probability)
    arcs: list[WordArc] = []
    # 0: begin; 1: between words; 2: silence; then 3 if silence ends with a token of its own.
    between, number = (0, 1) if silence is None else (1, 3)
    if silence is not None:
        arcs += [(0, 1, 0, 0, free), (0, 2, 0, 0, pause)]
        if silence_end is None:
            arcs.append((2, 1, silence, 0, 0.0))
        else:
            arcs += [(2, 3, silence, 0, 0.0), (3, 1, silence_end, 0, 0.0)]
            number = 4
    if backoff is not None:
        arcs.append((between, between, *backoff, 0.0))
    for word, tokens in pronunciations:
        if not tokens:
            raise CorpusError(f"word {word} has no tokens, so it cannot be decoded")
        state, output = between, word
        for token in tokens[:-1]:
            arcs.append((state, number, token, output, 0.0))
            state, output, number = number, 0, number + 1
        if silence is None:
            arcs.append((state, between, tokens[-1], output, 0.0))
        else:
            arcs += [(state, between, tokens[-1], output, free), (state, 2, tokens[-1], output, pause)]
    return sorted(arcs, key=lambda arc: arc[0]), between


def lexicon_transducer(arcs: Sequence[WordArc], end: int) -> Any:
    """`lexicon_arcs` as a k2 Fsa."""
    number = 1 + max(max(arc[:2]) for arc in arcs)
    closed = sorted([*arcs, (end, number, -1, -1, 0.0)], key=lambda arc: arc[0])
    lines = [f"{a} {b} {label} {output} {-cost}" for a, b, label, output, cost in closed]
    return import_k2().Fsa.from_str("\n".join([*lines, str(number)]), aux_label_names=["aux_labels"])
