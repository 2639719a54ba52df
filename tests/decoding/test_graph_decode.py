from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.greedy import greedy_decode
from asrkd.errors import CorpusError, MismatchError
from asrkd.graphs import word_loop_graph

LEXICON = Lexicon.from_pairs([("x", ["a", "b"]), ("y", ["b", "b"]), ("z", ["b", "a"]), ("w", ["a"]), ("w", ["c"])])


def ctc_words(path: tuple[int, ...], inventory: Inventory) -> list[tuple[str, ...]]:
    tokens = [u for i, u in enumerate(path) if u and (i == 0 or path[i - 1] != u)]
    return segmentations([inventory.units[t] for t in tokens])


def segmentations(phones: list[str]) -> list[tuple[str, ...]]:
    """Every way to cut phones into words of the lexicon."""
    if not phones:
        return [()]
    found = []
    for word, spellings in LEXICON.pronunciations.items():
        for spelling in spellings:
            if tuple(phones[: len(spelling)]) == spelling:
                found += [(word, *rest) for rest in segmentations(phones[len(spelling) :])]
    return found


def hmm_words(path: tuple[int, ...], inventory: Inventory) -> list[tuple[str, ...]]:
    """Every word sequence that a frame-by-frame state path can be read as (one state a phone)."""

    def read(t: int) -> list[tuple[str, ...]]:
        if t == len(path):
            return [()]
        found = [rest for rest in read(t + 1)] if path[t] == 0 else []
        for word, spellings in LEXICON.pronunciations.items():
            for spelling in spellings:
                for end in ends(t, inventory.ids(spelling)):
                    found += [(word, *rest) for rest in read(end)]
        return found

    def ends(t: int, labels: list[int]) -> list[int]:
        if not labels:
            return [t]
        result, stop = [], t
        while stop < len(path) and path[stop] == labels[0]:
            stop += 1
            result += ends(stop, labels[1:])
        return result

    return read(0)


@pytest.mark.parametrize("topology", ["ctc", "hmm"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("penalty", [0.3, -2.0])
def test_best_path_equals_enumeration(topology: str, seed: int, penalty: float) -> None:
    inventory = Inventory.from_lexicon(LEXICON, topology, states_per_phone=1)
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(len(inventory)), 6)).astype(np.float32)
    words_of = ctc_words if topology == "ctc" else hmm_words
    best = -math.inf
    for path in itertools.product(range(len(inventory)), repeat=6):
        acoustic = float(log_probs[np.arange(6), path].sum())
        for words in words_of(path, inventory):
            best = max(best, acoustic - len(words) * (math.log(len(LEXICON.words)) + penalty))
    graph = word_loop_graph(LEXICON, inventory, insertion_penalty=penalty)
    found = graph_decode(log_probs, graph, beam=1000.0)
    assert found.score == pytest.approx(best, abs=1e-4)
    assert found.words in words_of(tuple(int(c) for c in found.classes), inventory)


def test_greedy_collapses_repeats_and_blanks() -> None:
    inventory = Inventory.from_lexicon(LEXICON, "ctc")
    path = [0, 1, 1, 0, 1, 2, 2, 3, 0]
    log_probs = np.log(np.eye(4, dtype=np.float32)[path] + 1e-6)
    assert greedy_decode(log_probs, inventory).words == ("a", "a", "b", "c")
    assert greedy_decode(log_probs[:0], inventory).words == ()


def test_wrong_inputs_are_refused() -> None:
    inventory = Inventory.from_lexicon(LEXICON, "ctc")
    graph = word_loop_graph(LEXICON, inventory)
    with pytest.raises(MismatchError, match="7 classes.*made for 4"):
        graph_decode(np.zeros((3, 7), dtype=np.float32), graph)
    with pytest.raises(CorpusError, match="NaN"):
        graph_decode(np.full((3, 4), np.nan, dtype=np.float32), graph)
    with pytest.raises(MismatchError, match="built for"):
        graph.check(Inventory.from_lexicon(LEXICON, "hmm"))
    with pytest.raises(MismatchError, match="greedy"):
        greedy_decode(np.zeros((3, 7), dtype=np.float32), Inventory.from_lexicon(LEXICON, "hmm"))
    assert graph_decode(np.zeros((0, 4), dtype=np.float32), graph).words == ()


def test_a_phone_that_may_be_left_early_passes_in_one_frame() -> None:
    inventory = Inventory.from_lexicon(LEXICON, "hmm", states_per_phone=2)
    states = {unit: number for number, unit in enumerate(inventory.units)}
    for units, early, text in (
        (["a_0", "b_0", "SIL", "c_0"], True, ["x", "w"]),
        (["a_0", "a_1", "b_0", "b_1", "SIL", "c_0", "c_1"], True, ["x", "w"]),
        (["a_0", "a_1", "b_0", "b_1", "SIL", "c_0", "c_1"], False, ["x", "w"]),
        (["b_0", "b_0", "b_1", "b_0"], True, ["y"]),
    ):
        scores = np.full((len(units), len(inventory)), -30.0, dtype=np.float32)
        scores[np.arange(len(units)), [states[unit] for unit in units]] = 0.0
        graph = word_loop_graph(LEXICON, inventory, leave_early=early)
        found = graph_decode(scores, graph, beam=1e4)
        assert list(found.words) == text and found.score == pytest.approx(-len(text) * math.log(4), abs=1e-3)
