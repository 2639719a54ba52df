from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st

from asrkd.alignment.forced import TooFewFrames, transcript_graph, viterbi
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import CorpusError

LEXICON = Lexicon.from_pairs([("x", ["a", "b"]), ("x", ["b"]), ("y", ["c"])])
INVENTORY = Inventory.from_lexicon(LEXICON, "hmm", states_per_phone=1)
LETTERS = Lexicon.from_pairs([(letter, [letter]) for letter in "abc"])
LETTERS_CTC = Inventory.from_lexicon(LETTERS, "ctc")


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


@given(
    text=st.lists(st.sampled_from("aabc"), min_size=1, max_size=6),
    spare=st.integers(0, 20),
    seed=st.integers(0, 1000),
)
def test_ctc_alignment_is_that_of_torchaudio(text: list[str], spare: int, seed: int) -> None:
    graph = transcript_graph(" ".join(text), LETTERS, LETTERS_CTC)
    tokens = torch.tensor([LETTERS_CTC.ids(text)], dtype=torch.int32)
    least = len(text) + sum(a == b for a, b in itertools.pairwise(text))
    assert graph.min_frames == least
    log_probs = torch.randn(least + spare, 4, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    path, score = viterbi(log_probs.numpy(), graph)
    theirs, scores = torchaudio.functional.forced_align(log_probs[None], tokens)
    assert score == pytest.approx(float(scores.sum()), rel=1e-5)
    assert graph.classes[path].tolist() == theirs[0].tolist()
    with pytest.raises(TooFewFrames, match=f"{least - 1} frames are too few for the {least} that"):
        viterbi(np.zeros((least - 1, 4)), graph)


@pytest.mark.parametrize("text", ["x", "y y", "x y", "x x"])
def test_ctc_alignment_takes_the_best_pronunciation(text: str) -> None:
    inventory = Inventory.from_lexicon(LEXICON, "ctc")
    scores = np.random.default_rng(5).normal(size=(6, 4))
    spellings = [
        [label for word in chosen for label in inventory.ids(word)]
        for chosen in itertools.product(*(LEXICON.pronunciations[word] for word in text.split()))
    ]
    paths = [
        path
        for path in itertools.product(range(4), repeat=6)
        if [label for n, label in enumerate(path) if label and (n == 0 or path[n - 1] != label)] in spellings
    ]
    graph = transcript_graph(text, LEXICON, inventory)
    path, score = viterbi(scores, graph)
    assert score == pytest.approx(max(float(scores[np.arange(6), own].sum()) for own in paths))
    assert tuple(graph.classes[path]) in paths
