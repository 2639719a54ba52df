from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

k2 = pytest.importorskip("k2", reason="k2 is not installed; CI runs this on Python 3.10 with k2 1.23.4")
from graph_oracles import ctc_reading  # noqa: E402

from asrkd.errors import CorpusError  # noqa: E402
from asrkd.sequence.decode import best_paths, grammar_scores, n_best, one_best, rescored  # noqa: E402
from asrkd.sequence.grammar import ngram, word_loop  # noqa: E402
from asrkd.sequence.graphs import decoding_graph  # noqa: E402
from asrkd.sequence.lattice import Beam, lattices  # noqa: E402
from asrkd.sequence.topology import ctc_topology  # noqa: E402

COSTS = {1: 0.3, 2: 0.5, 3: 1.0}
# Word n is token n.
WORDS = [(1, [1]), (2, [2]), (3, [3])]
GREAT = Beam(1e6, 1e6, max_active=100000)
ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0 </s>
-99 <s> -0.3
-0.6 a -0.2
-0.4 b -0.1
-0.9 c

\\2-grams:
-0.2 <s> a
-0.5 a b
-0.3 b </s>

\\end\\
"""


def graph(grammar: Any | None = None) -> Any:
    return decoding_graph(ctc_topology(4), WORDS, grammar or word_loop(COSTS), num_tokens=3, num_words=3)


def by_words(scores: torch.Tensor) -> dict[tuple[int, ...], float]:
    """The best path's score of every word sequence, by enumeration."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(4), repeat=len(scores)):
        words = ctc_reading(path)
        score = float(scores[range(len(scores)), list(path)].sum()) - sum(COSTS[word] for word in words)
        found[words] = max(found.get(words, -math.inf), score)
    return found


def test_n_best_lists_are_those_of_an_enumeration() -> None:
    scores = 2 * torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([5, 4])
    lattice = lattices(scores, lengths, graph(), beam=GREAT)
    for n, found in enumerate(n_best(lattice, 20)):
        expected = sorted(by_words(scores[n, : lengths[n]]).items(), key=lambda item: -item[1])[:20]
        assert [path.words for path in found] == [words for words, _ in expected]
        for path, (words, score) in zip(found, expected):  # noqa: B905
            assert path.score == pytest.approx(score, abs=1e-4)
            assert ctc_reading(path.classes.tolist()) == words
        assert found[0].words == one_best(scores, lengths, graph())[n].words


def test_grammars_score_sentences_and_rescoring_puts_the_better_one_first(tmp_path: Path) -> None:
    pytest.importorskip("kaldilm")
    (tmp_path / "lm.arpa").write_text(ARPA)
    new, old = ngram(tmp_path / "lm.arpa", ["a", "b", "c"]), word_loop(COSTS)
    sentences = [(1,), (1, 2), (3, 1), (2, 2, 3)]
    ten = math.log(10)
    expected = [
        -0.2 - 0.2 - 1.0,
        -0.2 - 0.5 - 0.3,
        -0.3 - 0.9 - 0.6 - 0.2 - 1.0,
        -0.3 - 0.4 - 0.1 - 0.4 - 0.1 - 0.9 - 1.0,
    ]
    torch.testing.assert_close(
        grammar_scores(new, sentences, backoff=4),
        torch.tensor([ten * one for one in expected], dtype=torch.float64),
        rtol=0,
        atol=1e-4,
    )
    loop = [-sum(COSTS[word] for word in own) for own in sentences]
    torch.testing.assert_close(
        grammar_scores(old, sentences), torch.tensor(loop, dtype=torch.float64), rtol=0, atol=1e-5
    )
    assert grammar_scores(old, [(1, 9)]).tolist() == [-math.inf]
    # Rescored with the grammar, the list's first is what decoding with it finds.
    scores = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(4))
    lattice = lattices(scores, torch.tensor([5]), graph(), beam=GREAT)
    first = n_best(lattice, 1000)[0]
    found = rescored(first, old, new, backoff=4)
    direct = one_best(scores, torch.tensor([5]), graph(new))[0]
    assert found[0].words == direct.words != first[0].words
    assert found[0].score == pytest.approx(direct.score, abs=1e-3)


def test_an_empty_lattice_has_no_best_path() -> None:
    scores = 50 * torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    narrow = lattices(scores, torch.tensor([1, 1]), k2.Fsa.from_str("0 1 1 0\n1 2 1 0\n2 3 -1 0\n3"))
    with pytest.raises(CorpusError, match="no path of utterance 0 .* survives the beam"):
        best_paths(narrow)
    with pytest.raises(CorpusError, match="no path of utterance 0 .* survives the beam"):
        n_best(narrow, 3)
