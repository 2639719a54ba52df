from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

k2 = pytest.importorskip("k2", reason="k2 is not installed; CI runs this on Python 3.10 with k2 1.23.4")

from graph_oracles import ctc_reading, graph_paths, hmm_readings  # noqa: E402

from asrkd.errors import ConfigError, CorpusError  # noqa: E402
from asrkd.sequence.decode import one_best  # noqa: E402
from asrkd.sequence.grammar import ngram, phone_ngram, word_loop  # noqa: E402
from asrkd.sequence.graphs import (  # noqa: E402
    decoding_graph,
    denominator,
    numerators,
    transcript_acceptor,
)
from asrkd.sequence.topology import ctc_topology, hmm_topology  # noqa: E402

# Silence of one state, a phone of two states, one of one state.
STATES = [[0], [1, 2], [3]]
SILENCE = 1
# Homophones, a word that begins another, two pronunciations.
WORDS = [(1, [2]), (2, [2]), (3, [2, 3]), (4, [3]), (4, [3, 3])]


def paths(graph, length: int) -> Counter:
    return Counter(classes for classes, _ in graph_paths(graph, length))


def said(tokens: tuple[int, ...], spelled: list[list[list[int]]], silence: int | None) -> bool:
    """Whether tokens are the transcript, with silences between its words alone."""
    for choice in itertools.product(*spelled):
        for pauses in itertools.product([(), (silence,)], repeat=len(choice) + 1) if silence else [((),) * 9]:
            whole = list(pauses[0])
            for own, pause in zip(choice, pauses[1:]):  # noqa: B905
                whole += [*own, *pause]
            if tuple(whole) == tokens:
                return True
    return False


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("length", [1, 3, 5])
def test_a_numerator_has_every_hmm_path_of_its_transcript_once_a_reading(length: int, early: bool) -> None:
    spelled = [[[2]], [[3], [3, 3]]]
    graph = numerators(hmm_topology(STATES, leave_early=early), [transcript_acceptor(spelled, silence=SILENCE)])[0]
    expected = Counter()
    for path in itertools.product(range(4), repeat=length):
        for tokens in hmm_readings(path, STATES, leave_early=early):
            expected[path] += said(tokens, spelled, SILENCE)
    assert paths(graph, length) == +expected


@pytest.mark.parametrize("length", [1, 4, 5])
def test_a_numerator_has_every_ctc_path_of_its_transcript(length: int) -> None:
    spelled = [[[2]], [[3, 3], [1]]]
    graph = numerators(ctc_topology(4), [transcript_acceptor(spelled)])[0]
    every = itertools.product(range(4), repeat=length)
    expected = Counter(path for path in every if ctc_reading(path) in [(2, 3, 3), (2, 1)])
    assert paths(graph, length) == expected


@pytest.mark.parametrize("order", [2, 3])
def test_a_phone_language_model_has_the_relative_frequencies_of_its_sequences(order: int) -> None:
    sequences = [[1, 2, 1], [1, 2], [2, 2, 1], [3]]
    graph = phone_ngram(sequences, order)
    for length in range(1, 5):
        found = dict(graph_paths(graph, length))
        for tokens in itertools.product([1, 2, 3], repeat=length):
            score = 0.0
            for position, token in enumerate([*tokens, -1]):
                # Histories as in n-grams with one sentence start: what stands before, the last order - 1 tokens of it.
                history = tokens[max(0, position - order + 1) : position]
                follows = Counter()
                for own in sequences:
                    for at, after in enumerate([*own, -1]):
                        if tuple(own[max(0, at - order + 1) : at]) == history:
                            follows[after] += 1
                score = score + math.log(follows[token] / follows.total()) if follows[token] else -math.inf
            assert found.get(tokens, -math.inf) == pytest.approx(score, abs=1e-5)
    for own in sequences:
        assert tuple(own) in dict(graph_paths(graph, len(own)))


def test_a_denominator_gives_a_path_the_scores_of_its_token_sequences() -> None:
    lm = phone_ngram([[1, 2, 1], [2, 3], [2]], 2)
    graph = denominator(hmm_topology(STATES), lm)
    found: dict[tuple[int, ...], list[float]] = {}
    for path, score in graph_paths(graph, 4):
        found.setdefault(path, []).append(score)
    for path in itertools.product(range(4), repeat=4):
        scores = []
        for tokens in hmm_readings(path, STATES):
            scores += [score for own, score in graph_paths(lm, len(tokens)) if own == tokens]
        assert sorted(found.get(path, [])) == pytest.approx(sorted(scores), abs=1e-5)


@pytest.mark.parametrize("topology", ["hmm", "ctc"])
def test_a_decoding_graph_scores_every_path_as_topology_lexicon_and_grammar_do(topology: str) -> None:
    costs = {1: 0.3, 2: 0.5, 3: 1.0, 4: 2.0}
    silence = SILENCE if topology == "hmm" else None
    h = hmm_topology(STATES) if topology == "hmm" else ctc_topology(4)
    graph = decoding_graph(
        h, WORDS, word_loop(costs), num_tokens=3, num_words=4, silence=silence, silence_probability=0.3
    )
    pause, free = -math.log(0.3), -math.log(0.7)

    def sentences(tokens: tuple[int, ...]):
        """(words, cost) of each way to cut tokens into words, behind the beginning."""
        if not tokens:
            yield (), 0.0
        for word, spelling in WORDS:
            if tokens[: len(spelling)] != tuple(spelling):
                continue
            rest = tokens[len(spelling) :]
            if silence is None:
                after = [(rest, 0.0)]
            else:
                after = [(rest, free)] + ([(rest[1:], pause)] if rest[:1] == (silence,) else [])
            for left, cost in after:
                for words, more in sentences(left):
                    yield (word, *words), costs[word] + cost + more

    generator = torch.Generator().manual_seed(1)
    for length in range(1, 6):
        scores = torch.randn(1, length, 4, generator=generator)
        best = -math.inf
        for path in itertools.product(range(4), repeat=length):
            acoustic = float(scores[0, range(length), list(path)].sum())
            for tokens in hmm_readings(path, STATES) if silence else [ctc_reading(path)]:
                begins = [(tokens, 0.0)]
                if silence is not None:
                    begins = [(tokens, free)] + ([(tokens[1:], pause)] if tokens[:1] == (silence,) else [])
                for left, cost in begins:
                    for words, more in sentences(left):
                        if acoustic - cost - more > best:
                            best, expected = acoustic - cost - more, words
        found = one_best(scores, torch.tensor([length]), graph)[0]
        assert (found.words, found.score) == (expected, pytest.approx(best, abs=1e-4))


ARPA = """\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-1.0 </s>
-99 <s> -0.3
-0.6 yes -0.2
-0.4 no -0.1
-0.9 maybe

\\2-grams:
-0.2 <s> yes
-0.5 yes no
-0.3 no </s>
-0.45 no no

\\end\\
"""


def test_an_arpa_grammar_gives_the_scores_of_its_n_grams_and_back_offs(tmp_path: Path) -> None:
    pytest.importorskip("kaldilm")
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    names = ["yes", "no", "maybe"]
    grammar = ngram(path, names)
    topology = ctc_topology(4)
    graph = decoding_graph(topology, [(1, [1]), (2, [2]), (3, [3])], grammar, num_tokens=3, num_words=3)
    ten = math.log(10)
    expected = {
        (1,): -0.2 - 0.2 - 1.0,
        (1, 2): -0.2 - 0.5 - 0.3,
        (2, 2): -0.3 - 0.4 - 0.45 - 0.3,
        (3, 1): -0.3 - 0.9 - 0.6 - 0.2 - 1.0,
    }
    for words, score in expected.items():
        frames = [label for word in words for label in (word, 0)]
        scores = torch.full((1, len(frames), 4), -50.0)
        scores[0, range(len(frames)), frames] = 0.0
        found = one_best(scores, torch.tensor([len(frames)]), graph)[0]
        assert (found.words, found.score) == (words, pytest.approx(ten * score, abs=1e-3))


def test_what_is_wrong_with_a_grammar_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("kaldilm")
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    assert ngram(path, ["yes", "no"]).num_arcs
    assert "1 of its 3 words are not in the lexicon and are never found: 'maybe'" in caplog.text
    with pytest.raises(CorpusError, match="none of the lexicon's 1 words"):
        ngram(path, ["ja"])
    with pytest.raises(CorpusError, match="cannot be read: No such file"):
        ngram(tmp_path / "none", ["yes"])
    path.write_text("yes no\n")
    with pytest.raises(CorpusError, match="no line .data., so it is not an ARPA file"):
        ngram(path, ["yes"])
    path.write_text(ARPA.replace("-0.4 no -0.1", "x no -0.1"))
    with pytest.raises(CorpusError, match="not a readable ARPA file"):
        ngram(path, ["yes", "no", "maybe"])


def test_what_cannot_be_a_graph_is_refused() -> None:
    with pytest.raises(ConfigError, match="every token needs at least one HMM state"):
        hmm_topology([[0], []])
    with pytest.raises(CorpusError, match="a transcript is empty"):
        transcript_acceptor([])
    with pytest.raises(CorpusError, match="without tokens"):
        transcript_acceptor([[[1], []]])
    with pytest.raises(CorpusError, match="needs transcripts"):
        phone_ngram([[]])
    with pytest.raises(CorpusError, match="order of the phone language model is 1"):
        phone_ngram([[1]], 1)
    with pytest.raises(CorpusError, match="word 1 has no tokens"):
        decoding_graph(ctc_topology(3), [(1, [])], word_loop({1: 0.0}), num_tokens=2, num_words=1)
