"""HLG by kaldifst against every path one by one, and against HLG by k2 where that is installed."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kaldi_decoder
import kaldifst
import numpy as np
import pytest
import torch
from graph_oracles import ctc_reading, hmm_readings, random_arpa

from asrkd.errors import CorpusError
from asrkd.sequence.grammar import ngram, ngram_text
from asrkd.sequence.hlg import compose_hlg
from asrkd.sequence.topology import ctc_arcs, hmm_arcs

needs_k2 = pytest.mark.skipif(find_spec("k2") is None, reason="k2 is not installed; CI runs this with k2 1.23.4")
needs_kaldilm = pytest.mark.skipif(find_spec("kaldilm") is None, reason="kaldilm is not installed")
# Silence of one state, a phone of two states, one of one state.
STATES = [[0], [1, 2], [3]]
# Homophones, a word that begins another, two pronunciations.
WORDS = [(1, [2]), (2, [2]), (3, [2, 3]), (4, [3]), (4, [3, 3])]


def kaldi_best(graph: Any, scores: np.ndarray) -> tuple[tuple[int, ...], float]:
    """Words and score of the best path, no beam."""
    options = kaldi_decoder.FasterDecoderOptions(beam=1e5, max_active=10**6)
    decoder = kaldi_decoder.FasterDecoder(graph, options)
    decoder.decode(kaldi_decoder.DecodableCtc(scores))
    assert decoder.reached_final()
    found, lattice = decoder.get_best_path(True)
    assert found
    _, _, words, weight = kaldifst.get_linear_symbol_sequence(lattice)
    return tuple(words), -float(weight.value1 + weight.value2)


def sentences(
    tokens: tuple[int, ...], silence: int | None, probability: float
) -> Iterator[tuple[tuple[int, ...], float]]:
    """(words, cost of the silences) of each way to cut tokens into words, behind the beginning."""
    if not tokens:
        yield (), 0.0
    pause, free = -math.log(probability), -math.log(1 - probability)
    for word, spelling in WORDS:
        if tokens[: len(spelling)] != tuple(spelling):
            continue
        rest = tokens[len(spelling) :]
        after = [(rest, 0.0 if silence is None else free)]
        if silence is not None and rest[:1] == (silence,):
            after.append((rest[1:], pause))
        for left, cost in after:
            for words, more in sentences(left, silence, probability):
                yield (word, *words), cost + more


@pytest.mark.parametrize("free_arcs", [True, False])
@pytest.mark.parametrize("topology", ["hmm", "hmm left early", "ctc"])
def test_the_best_path_is_that_of_topology_lexicon_and_grammar(topology: str, free_arcs: bool) -> None:
    costs = {1: 0.3, 2: 0.5, 3: 1.0, 4: 2.0}
    early, silence, probability = topology.endswith("early"), 1 if topology != "ctc" else None, 0.3
    grammar = "\n".join([*(f"0 0 {word} {word} {cost}" for word, cost in costs.items()), "0 0"])
    arcs = hmm_arcs(STATES, leave_early=early) if silence else ctc_arcs(4)
    graph = compose_hlg(
        arcs,
        WORDS,
        grammar,
        num_tokens=3,
        num_words=4,
        silence=silence,
        silence_probability=probability,
        free_arcs=free_arcs,
    )
    assert free_arcs == any(
        arc.ilabel == 0 for state in range(graph.num_states) for arc in kaldifst.ArcIterator(graph, state)
    )
    rng = np.random.default_rng(1)
    for length in range(1, 6):
        scores = rng.normal(0, 1, (length, 4)).astype(np.float32)
        best = -math.inf
        for path in itertools.product(range(4), repeat=length):
            acoustic = float(scores[range(length), list(path)].sum())
            for tokens in hmm_readings(path, STATES, leave_early=early) if silence else [ctc_reading(path)]:
                begins = [(tokens, 0.0 if silence is None else -math.log(1 - probability))]
                if silence is not None and tokens[:1] == (silence,):
                    begins.append((tokens[1:], -math.log(probability)))
                for left, cost in begins:
                    for words, more in sentences(left, silence, probability):
                        score = acoustic - cost - more - sum(costs[word] for word in words)
                        if score > best:
                            best, expected = score, words
        words, score = kaldi_best(graph, scores)
        assert (words, score) == (expected, pytest.approx(best, abs=1e-3))


@needs_k2
@needs_kaldilm
@pytest.mark.parametrize("topology", ["hmm", "ctc"])
def test_kaldifst_and_k2_compose_graphs_of_the_same_words_and_scores(topology: str, tmp_path: Path) -> None:
    from asrkd.sequence.decode import one_best
    from asrkd.sequence.graphs import decoding_graph
    from asrkd.sequence.topology import ctc_topology, hmm_topology

    for seed in range(50):
        rng = random.Random(seed)
        num_phones = rng.randint(2, 4)
        names = [f"w{n}" for n in range(1, rng.randint(3, 8))]
        silence = 1 if topology == "hmm" else None
        phones = range(2, 2 + num_phones) if silence else range(1, 1 + num_phones)
        if silence:
            states, classes = [[0]], 1
            for _ in phones:
                states.append(list(range(classes, classes + rng.randint(1, 2))))
                classes += len(states[-1])
        else:
            states, classes = [], 1 + num_phones
        spelled = []
        for word in range(1, 1 + len(names)):
            for _ in range(rng.randint(1, 2)):
                spelled.append((word, [rng.choice(phones) for _ in range(rng.randint(1, 3))]))
        spelled = [pair for n, pair in enumerate(spelled) if pair not in spelled[:n]]
        random_arpa(rng, names, tmp_path / "lm.arpa")
        options: dict[str, Any] = {
            "num_tokens": num_phones + (1 if silence else 0),
            "num_words": len(names),
            "silence": silence,
            "silence_probability": rng.uniform(0.2, 0.8),
        }
        early = rng.random() < 0.5
        arcs = hmm_arcs(states, leave_early=early) if silence else ctc_arcs(classes)
        ours = compose_hlg(arcs, spelled, ngram_text(tmp_path / "lm.arpa", names), **options)
        h = hmm_topology(states, leave_early=early) if silence else ctc_topology(classes)
        theirs = decoding_graph(h, spelled, ngram(tmp_path / "lm.arpa", names), **options)
        length = rng.randint(8, 14)
        scores = np.random.default_rng(seed).normal(0, 3, (length, classes)).astype(np.float32)
        path = one_best(torch.from_numpy(scores)[None], torch.tensor([length]), theirs)[0]
        words, score = kaldi_best(ours, scores)
        assert (words, score) == (path.words, pytest.approx(path.score, abs=1e-3)), seed


def test_a_grammar_that_the_lexicon_cannot_spell_is_refused() -> None:
    with pytest.raises(CorpusError, match="no sentence of the grammar can be spelled"):
        compose_hlg(ctc_arcs(4), WORDS, "0 1 9 9 0\n1 0", num_tokens=3, num_words=9)
