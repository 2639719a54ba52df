from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from asrkd.alignment.forced import ctc_align, transcript_graph, viterbi
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import CorpusError

LEXICON = Lexicon.from_pairs([("x", ["a", "b"]), ("x", ["b"]), ("y", ["c"])])
INVENTORY = Inventory.from_lexicon(LEXICON, "hmm", states_per_phone=1)


def allowed(path: tuple[int, ...], text: str) -> bool:
    """Can the frame classes be read as the transcript with optional silence? By brute force over spellings."""
    collapsed = [label for i, label in enumerate(path) if i == 0 or path[i - 1] != label]
    for spellings in itertools.product(*(LEXICON.pronunciations[word] for word in text.split())):
        for gaps in itertools.product([False, True], repeat=len(spellings) + 1):
            wanted = [0] if gaps[0] else []
            for spelling, gap in zip(spellings, gaps[1:], strict=True):
                wanted += [*INVENTORY.ids(spelling), *([0] if gap else [])]
            if wanted == collapsed:
                return True
    return False


@pytest.mark.parametrize("text", ["x", "y x", "x y"])
def test_viterbi_equals_enumeration(text: str) -> None:
    scores = np.random.default_rng(3).normal(size=(6, 4))
    graph = transcript_graph(text, LEXICON, INVENTORY)
    path, score = viterbi(scores, graph)
    paths = [p for p in itertools.product(range(4), repeat=6) if allowed(p, text)]
    best = max(float(scores[np.arange(6), p].sum()) for p in paths)
    assert score == pytest.approx(best)
    assert tuple(graph.classes[path]) in paths


def test_a_repeated_phone_needs_only_one_frame_each() -> None:
    graph = transcript_graph("y y", LEXICON, INVENTORY)
    path, _ = viterbi(np.zeros((2, 4)), graph)
    assert graph.classes[path].tolist() == [3, 3] and path[0] != path[1]


@pytest.mark.parametrize("text", ["x", "y", "x y", "y x x", "x x x y"])
def test_min_frames_are_those_of_the_shortest_path(text: str) -> None:
    graph = transcript_graph(text, LEXICON, INVENTORY)
    assert graph.min_frames == len(text.split())  # the second pronunciation of x is one phone
    viterbi(np.zeros((graph.min_frames, 4)), graph)
    with pytest.raises(CorpusError, match="are too few"):
        viterbi(np.zeros((graph.min_frames - 1, 4)), graph)
    with pytest.raises(CorpusError, match="NaN or infinite"):
        viterbi(np.full((9, 4), np.nan), graph)


def test_a_phone_that_may_be_left_early_needs_one_frame() -> None:
    inventory = Inventory.from_lexicon(LEXICON, "hmm", states_per_phone=2)
    for leave_early, least in ((False, 4), (True, 2)):
        graph = transcript_graph("y y", LEXICON, inventory, leave_early=leave_early)
        assert graph.min_frames == least
        path, _ = viterbi(np.zeros((least, 7)), graph)
        assert set(graph.classes[path]) <= {5, 6} and graph.words[path].tolist() == sorted(least // 2 * [0, 1])
    with pytest.raises(CorpusError, match="1 frames are too few"):
        viterbi(np.zeros((1, 7)), graph)


def test_too_short_and_empty_are_errors() -> None:
    graph = transcript_graph("y y y", LEXICON, INVENTORY)
    for frames in (0, 2):
        with pytest.raises(CorpusError, match=f"{frames} frames are too few"):
            viterbi(np.zeros((frames, 4)), graph)
    with pytest.raises(CorpusError, match="'q' is not in the lexicon"):
        transcript_graph("x q", LEXICON, INVENTORY)
    with pytest.raises(CorpusError, match="empty"):
        transcript_graph("  ", LEXICON, INVENTORY)
    with pytest.raises(CorpusError, match="do not fit into 2 frames"):
        ctc_align(torch.zeros(2, 4), [1, 1])


def test_ctc_alignment_spells_the_tokens() -> None:
    log_probs = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    path = ctc_align(log_probs, [1, 1, 3])
    assert [u for i, u in enumerate(path) if u and (i == 0 or path[i - 1] != u)] == [1, 1, 3]
