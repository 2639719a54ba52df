"""The HMM of one transcript at 10 ms, and the best paths of many utterances at once.

A phone is three states from left to right, each at least one frame; silence is one state of at least three frames, which may come
before the first word, between words and after the last, where it pays for coming.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STATES = 3
SILENCE_STATE = 0
# How a node that is not the next of its phone is entered.
DIRECT, INTO_SILENCE, FROM_SILENCE = 0, 1, 2
_CELLS = 12_000_000


def states_of(phone: int) -> range:
    """The states of phone number 0, 1, ...; silence is -1."""
    return range(0, 1) if phone < 0 else range(1 + STATES * phone, 1 + STATES * (phone + 1))


@dataclass(frozen=True)
class PhoneGraph:
    """The nodes of a transcript in order, S of them; node s is entered from itself, from s - 1 (`follows`), or as `entries` say.

    Attributes:
        states: (S,) HMM state.
        phones: (S,) a number for each phone of the transcript, counted over all pronunciations; -1 for silence.
        parts: (S,) which of its phone's states it is.
        words: (S,) number of the word, -1 for silence.
        follows: (S,) bool.
        loops: (S,) bool: may last longer than a frame.
        entries: (target, source, kind) of each other way.
        initial, final: (S,) kind of beginning and end there (DIRECT, INTO_SILENCE), -1 for none.
        min_frames: of the shortest path.
    """

    states: NDArray[np.int64]
    phones: NDArray[np.int64]
    parts: NDArray[np.int64]
    words: NDArray[np.int64]
    follows: NDArray[np.bool_]
    loops: NDArray[np.bool_]
    entries: NDArray[np.int64]
    initial: NDArray[np.int64]
    final: NDArray[np.int64]
    min_frames: int


def phone_graph(words: Sequence[Sequence[Sequence[int]]]) -> PhoneGraph:
    """The graph of a transcript: for each word its pronunciations, each the numbers of its phones (-1 for silence)."""
    rows: list[tuple[int, int, int, int, bool, bool]] = []
    entries: list[tuple[int, int, int]] = []
    initial: dict[int, int] = {}
    phones = 0

    def silence() -> tuple[int, int]:
        first = len(rows)
        for part in range(STATES):
            rows.append((SILENCE_STATE, -1, part, -1, part > 0, part == STATES - 1))
        return first, len(rows) - 1

    first, last = silence()
    initial[first] = INTO_SILENCE
    ends = [(last, FROM_SILENCE)]
    for number, spellings in enumerate(words):
        begins, word_ends = [], []
        for spelling in spellings:
            begins.append(len(rows))
            for place, phone in enumerate(spelling):
                for part, state in enumerate(states_of(phone)):
                    rows.append((state, phones if phone >= 0 else -1, part, number, place + part > 0, True))
                phones += 1
            word_ends.append(len(rows) - 1)
        entries += [(begin, source, kind) for begin in begins for source, kind in ends]
        if number == 0:
            initial |= dict.fromkeys(begins, DIRECT)
        first, last = silence()
        entries += [(first, end, INTO_SILENCE) for end in word_ends]
        ends = [(last, FROM_SILENCE), *((end, DIRECT) for end in word_ends)]
    states, own, parts, word, follows, loops = (np.array(column) for column in zip(*rows, strict=True))
    begins_at, ends_at = np.full(len(rows), -1), np.full(len(rows), -1)
    for node, kind in initial.items():
        begins_at[node] = kind
    for node, kind in ends:
        ends_at[node] = INTO_SILENCE if kind == FROM_SILENCE else DIRECT
    least = sum(min(sum(len(states_of(phone)) for phone in spelling) for spelling in spellings) for spellings in words)
    return PhoneGraph(
        states, own, parts, word, follows, loops, np.array(entries).reshape(-1, 3), begins_at, ends_at, least
    )


@dataclass(frozen=True)
class Costs:
    """Natural logarithms of transition probabilities.

    Attributes:
        stay, leave: (V,) of each state.
        between: (3,) by the kind of entry; `begin` and `end`: (2,) without and with silence.
    """

    stay: NDArray[np.float64]
    leave: NDArray[np.float64]
    between: NDArray[np.float64]
    begin: NDArray[np.float64]
    end: NDArray[np.float64]


def viterbi_paths(
    scores: Sequence[NDArray[np.float32]], graphs: Sequence[PhoneGraph], costs: Costs
) -> list[tuple[NDArray[np.int64], float]]:
    """For each utterance the (T,) nodes of its best path, and that path's score.

    Args:
        scores: (T, V) log-likelihoods each; T is at least the graph's `min_frames`.
    """
    order = sorted(range(len(scores)), key=lambda n: -len(scores[n]))
    found: list[tuple[NDArray[np.int64], float]] = [(np.zeros(0, np.int64), 0.0)] * len(scores)
    while order:
        frames, count, nodes = len(scores[order[0]]), 0, 0
        while count < len(order):
            nodes = max(nodes, len(graphs[order[count]].states))
            if count and (count + 1) * frames * nodes > _CELLS:
                break
            count += 1
        batch, order = order[:count], order[count:]
        for n, path in zip(batch, _search([scores[n] for n in batch], [graphs[n] for n in batch], costs), strict=True):
            found[n] = path
    return found


def _search(
    scores: list[NDArray[np.float32]], graphs: list[PhoneGraph], costs: Costs
) -> list[tuple[NDArray[np.int64], float]]:
    """`viterbi_paths` of one batch, the longest first."""
    count, frames = len(scores), len(scores[0])
    lengths = np.array([len(own) for own in scores])
    nodes = max(len(graph.states) for graph in graphs)
    emit = np.full((frames, count, nodes), -1e30, dtype=np.float32)
    stay = np.full((count, nodes), -np.inf)
    leave = np.full((count, nodes), -np.inf)
    follow = np.full((count, nodes), -np.inf)
    begin, end = np.full((count, nodes), -np.inf), np.full((count, nodes), -np.inf)
    entries = []
    for n, graph in enumerate(graphs):
        size = len(graph.states)
        emit[: lengths[n], n, :size] = scores[n][:, graph.states]
        stay[n, :size] = np.where(graph.loops, costs.stay[graph.states], -np.inf)
        # A node that cannot stay is left for sure.
        leave[n, :size] = np.where(graph.loops, costs.leave[graph.states], 0.0)
        follow[n, 1:size] = np.where(graph.follows[1:], leave[n, : size - 1], -np.inf)
        begin[n, :size] = np.where(graph.initial >= 0, costs.begin[graph.initial], -np.inf)
        end[n, :size] = np.where(graph.final >= 0, costs.end[graph.final], -np.inf) + leave[n, :size]
        entries.append(_entries(graph, leave[n], costs))
    targets, sources, weights = _padded(entries)
    rows = np.arange(count)[:, None]
    best = begin + emit[0]
    # 0: stayed, 1: from the node before, 2 + k: by entry k.
    back = np.zeros((frames, count, nodes), dtype=np.int8)
    final = np.empty((count, nodes))
    active = count
    for t in range(1, frames):
        while lengths[active - 1] <= t:
            active -= 1
            final[active] = best[active]
        old = best[:active]
        new = old + stay[:active]
        forward = np.full_like(new, -np.inf)
        forward[:, 1:] = old[:, :-1] + follow[:active, 1:]
        came = back[t, :active]
        np.greater(forward, new, out=came, casting="unsafe")
        np.maximum(new, forward, out=new)
        entering = old[rows[:active, :, None], sources[:active]] + weights[:active]
        choice, top = entering.argmax(axis=2), entering.max(axis=2)
        at = (rows[:active], targets[:active])
        wins = top > new[at]
        new[at] = np.where(wins, top, new[at])
        came[at] = np.where(wins, choice + 2, came[at])
        new += emit[t, :active]
        best[:active] = new
    final[:active] = best[:active]
    final += end
    node = final.argmax(axis=1)
    totals = final[np.arange(count), node]
    lookup = np.zeros((count, nodes), dtype=np.int64)
    lookup[rows, targets] = np.arange(targets.shape[1])
    paths = np.zeros((count, frames), dtype=np.int64)
    every = np.arange(count)
    for t in range(frames - 1, -1, -1):
        inside = t < lengths
        paths[inside, t] = node[inside]
        if t == 0:
            break
        move = back[t, every, node]
        entered = sources[every, lookup[every, node], np.maximum(move - 2, 0)]
        before = np.where(move == 0, node, np.where(move == 1, node - 1, entered))
        node = np.where(inside, before, node)
    return [(paths[n, : lengths[n]], float(totals[n])) for n in range(count)]


def _entries(graph: PhoneGraph, leave: NDArray[np.float64], costs: Costs) -> dict[int, list[tuple[int, float]]]:
    found: dict[int, list[tuple[int, float]]] = {}
    for target, source, kind in graph.entries.tolist():
        found.setdefault(target, []).append((source, float(leave[source] + costs.between[kind])))
    return found


def _padded(
    entries: list[dict[int, list[tuple[int, float]]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Targets (N, J), and for each its sources and their weights (N, J, P); what is padded enters node 0 with -inf."""
    width = max(len(own) for own in entries)
    depth = max(len(ways) for own in entries for ways in own.values())
    targets = np.zeros((len(entries), width), dtype=np.int64)
    sources = np.zeros((len(entries), width, depth), dtype=np.int64)
    weights = np.full((len(entries), width, depth), -np.inf)
    for n, own in enumerate(entries):
        for j, (target, ways) in enumerate(own.items()):
            targets[n, j] = target
            for k, (source, weight) in enumerate(ways):
                sources[n, j, k], weights[n, j, k] = source, weight
    return targets, sources, weights
