from __future__ import annotations

import itertools

import kaldifst
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import CorpusError
from asrkd.graphs import DecodingGraph, ForwardBackward, word_loop_graph


def enumerated(graph: DecodingGraph, scores: np.ndarray) -> np.ndarray:
    """(T, V) occupancies by going through every path of the graph, one by one."""
    rows = [line.split() for line in graph.fst.to_str(show_weight_one=True, fst_field_separator=" ").splitlines()]
    leaving: dict[int, list[tuple[int, int, float]]] = {}
    for row in rows:
        if len(row) == 5:
            leaving.setdefault(int(row[0]), []).append((int(row[1]), int(row[2]), float(row[4])))
    ends = {int(row[0]): float(row[1]) for row in rows if len(row) == 2}
    found, total = np.zeros(scores.shape), 0.0

    def walk(state: int, classes: list[int], score: float) -> None:
        nonlocal total
        if len(classes) == len(scores) and state in ends:
            mass = np.exp(score - ends[state])
            total += mass
            found[range(len(classes)), classes] += mass
        for target, label, cost in leaving.get(state, []):
            if not label:
                walk(target, classes, score - cost)
            elif len(classes) < len(scores):
                walk(target, [*classes, label - 1], score - cost + scores[len(classes), label - 1])

    walk(int(graph.fst.start), [], 0.0)
    return found / total if total else found


@pytest.mark.parametrize("topology", ["hmm", "ctc"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), frames=st.integers(1, 5), spread=st.sampled_from([0.3, 3.0, 60.0]))
def test_occupancies_are_those_of_all_paths(
    tmp_path_factory: pytest.TempPathFactory, topology: str, seed: int, frames: int, spread: float
) -> None:
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.txt"
    # Two words sound alike: both ways from their last class count.
    path.write_text("one a b\nsame a b\ntwo b\nlong b a a\n", encoding="utf-8")
    lexicon = Lexicon.read(path)
    inventory = Inventory.from_lexicon(lexicon, topology, states_per_phone=1)
    graph = word_loop_graph(lexicon, inventory, insertion_penalty=0.7, self_loop_cost=0.2)
    scores = spread * np.random.default_rng(seed).normal(size=(frames, len(inventory)))
    padded = torch.full((2, frames + 2, len(inventory)), 5.0, dtype=torch.float64)
    padded[0, :frames] = torch.from_numpy(scores)
    found = ForwardBackward(graph)(padded, torch.tensor([frames, frames + 2]))
    np.testing.assert_allclose(found[0, :frames], enumerated(graph, scores), atol=1e-12)
    assert not found[0, frames:].any()
    np.testing.assert_allclose(found[1].sum(1), 1, atol=1e-12)


def small_graph(arcs: list[tuple[int, int, int]], final: int) -> DecodingGraph:
    fst = kaldifst.StdVectorFst()
    for _ in range(1 + max(itertools.chain(*(arc[:2] for arc in arcs)))):
        fst.add_state()
    fst.start = 0
    fst.set_final(state=final, weight=0.0)
    for source, target, label in arcs:
        fst.add_arc(source, kaldifst.StdArc(label, 0, 0.0, target))
    return DecodingGraph(fst, ("<eps>",), Inventory(("<blk>", "a"), "ctc"), Lexicon.from_pairs([("a", ["a"])]))


def test_an_utterance_without_a_path_has_zeros() -> None:
    graph = ForwardBackward(small_graph([(0, 1, 2), (1, 2, 1)], 2))
    found = graph(torch.zeros(2, 3, 2), torch.tensor([2, 3]))
    assert found[0, :2].tolist() == [[0, 1], [1, 0]] and not found[1].any()


def test_what_cannot_be_summed_up_is_refused() -> None:
    with pytest.raises(CorpusError, match="cycle of arcs without a class"):
        ForwardBackward(small_graph([(0, 1, 0), (1, 0, 0), (0, 1, 1)], 1))
    with pytest.raises(CorpusError, match="NaN"):
        ForwardBackward(small_graph([(0, 1, 1)], 1))(torch.full((1, 1, 2), float("nan")), torch.tensor([1]))
