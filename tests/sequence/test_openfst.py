"""One graph, searched by kaldi-decoder and by k2."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

k2 = pytest.importorskip("k2", reason="k2 is not installed; CI runs this on Python 3.10 with k2 1.23.4")
kaldi_decoder = pytest.importorskip("kaldi_decoder")
kaldifst = pytest.importorskip("kaldifst")

from asrkd.errors import ConfigError  # noqa: E402
from asrkd.sequence.decode import one_best  # noqa: E402
from asrkd.sequence.grammar import word_loop  # noqa: E402
from asrkd.sequence.graphs import decoding_graph  # noqa: E402
from asrkd.sequence.openfst import from_openfst, to_openfst  # noqa: E402
from asrkd.sequence.topology import ctc_topology, hmm_topology  # noqa: E402


def kaldi_best(text: str, scores: torch.Tensor) -> tuple[tuple[int, ...], float, list[int]]:
    """Words, score and classes of the best path, by kaldi-decoder with a great beam."""
    options = kaldi_decoder.FasterDecoderOptions(beam=1e4, max_active=100000)
    fst = kaldifst.compile(text, acceptor=False)  # the decoder does not keep it alive
    decoder = kaldi_decoder.FasterDecoder(fst, options)
    decoder.decode(kaldi_decoder.DecodableCtc(scores.numpy()))
    assert decoder.reached_final()
    found, lattice = decoder.get_best_path()
    assert found
    _, classes, words, weight = kaldifst.get_linear_symbol_sequence(lattice)
    return tuple(words), -float(weight.value1 + weight.value2), [label - 1 for label in classes]


def random_graph(seed: int) -> tuple[Any, int]:
    """A decoding graph of a random lexicon, grammar and topology, and its number of classes."""
    rng = random.Random(seed)
    num_tokens = rng.randint(2, 6)
    words = [
        (word, [rng.randint(1, num_tokens) for _ in range(rng.randint(1, 3))])
        for word in range(1, rng.randint(2, 8))
        for _ in range(rng.randint(1, 2))
    ]
    num_words = max(word for word, _ in words)
    if rng.random() < 0.5:
        topology, silence, classes = ctc_topology(num_tokens + 1), None, num_tokens + 1
    else:
        sizes = [rng.randint(1, 3) for _ in range(num_tokens)]
        numbers = iter(range(sum(sizes)))
        topology = hmm_topology([[next(numbers) for _ in range(size)] for size in sizes])
        silence, classes = rng.choice([None, 1]), sum(sizes)
    grammar = word_loop({word: rng.uniform(0, 3) for word in range(1, num_words + 1)})
    graph = decoding_graph(topology, words, grammar, num_tokens=num_tokens, num_words=num_words, silence=silence)
    return graph, classes


@pytest.mark.parametrize("part", range(4))
def test_kaldi_decoder_and_k2_find_one_path_in_a_hundred_random_graphs(part: int) -> None:
    for seed in range(25 * part, 25 * part + 25):
        graph, classes = random_graph(seed)
        scores = 2 * torch.randn(1, 30, classes, generator=torch.Generator().manual_seed(seed))
        found = one_best(scores, torch.tensor([30]), graph)[0]
        words, score, path = kaldi_best(to_openfst(graph), scores[0])
        assert found.score == pytest.approx(score, abs=1e-3)
        assert (found.words, found.classes.tolist()) == (words, path)


@pytest.mark.parametrize("seed", range(10))
def test_a_graph_comes_back_from_its_text(seed: int) -> None:
    graph, classes = random_graph(seed)
    again = from_openfst(to_openfst(graph))
    scores = 2 * torch.randn(2, 20, classes, generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor([20, 15])
    for one, other in zip(one_best(scores, lengths, graph), one_best(scores, lengths, again)):  # noqa: B905
        assert (one.words, one.classes.tolist()) == (other.words, other.classes.tolist())
        assert one.score == pytest.approx(other.score, abs=1e-3)


def test_what_is_no_transducer_is_refused() -> None:
    with pytest.raises(ConfigError, match="not the text of an OpenFst transducer"):
        from_openfst("a b c\n")
