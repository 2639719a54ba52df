"""Grammars of sentences: what a file may hold, and that decoding finds its sentences alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.decode import graph_decode
from asrkd.errors import CorpusError
from asrkd.graphs import ngram_graph
from asrkd.sequence.acceptor import acceptor_text, acceptor_words, is_acceptor


@pytest.fixture
def lexicon(tmp_path: Path) -> Lexicon:
    (tmp_path / "words.txt").write_text("ONE\ta\nTWO\tb\nTEA\tc\nTEAS\tc b\n")
    return Lexicon.read(tmp_path / "words.txt")


def test_only_sentences_are_found(lexicon: Lexicon, tmp_path: Path) -> None:
    path = tmp_path / "tea.fst.txt"
    path.write_text("0 1 ONE\n0 2 TWO 0.1\n1 3 TEA\n2 3 TEAS\n3\n")
    assert is_acceptor(path) and acceptor_words(path) == ["ONE", "TWO", "TEA", "TEAS"]
    inventory = Inventory.from_lexicon(lexicon, "ctc")
    graph = ngram_graph(lexicon, inventory, path)
    rng, found = np.random.default_rng(0), set()
    for _ in range(30):
        scores = np.log(rng.dirichlet(np.ones(len(inventory)), size=8)).astype(np.float32)
        found.add(" ".join(graph_decode(scores, graph).words))
    assert found == {"ONE TEA", "TWO TEAS"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is empty"),
        ("0 1 ONE\n", "has no state to end in"),
        ("0 1 SIX\n1\n", "has the word 'SIX', which the lexicon cannot spell"),
        ("0 x ONE\n1\n", "line 1: '0 x ONE' is neither an arc"),
        ("0 1 ONE much\n1\n", "is neither an arc"),
        ("0 1 ONE nan\n1\n", "is neither an arc"),
        ("0 1 ONE ONE 0.5\n1\n", "is neither an arc"),
        ("0 1 ONE\n-1\n", "line 2: '-1' is neither an arc"),
    ],
)
def test_what_is_no_acceptor(content: str, why: str, lexicon: Lexicon, tmp_path: Path) -> None:
    path = tmp_path / "bad.fst.txt"
    path.write_text(content)
    with pytest.raises(CorpusError, match=why):
        acceptor_text(path, ["ONE", "TWO"])
