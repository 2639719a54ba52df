from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kaldifst
import numpy as np
import pytest
from graph_helpers import needs_k2
from numpy.typing import NDArray

from asrkd.acoustic import AcousticModel
from asrkd.corpus.characters import Characters
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.search import Search, best_decoder
from asrkd.errors import AsrkdError, ConfigError, CorpusError
from asrkd.graphs import DecodingGraph, word_loop_graph

LEXICON = Lexicon.from_pairs([("x", ["a", "b"]), ("y", ["b", "b"]), ("w", ["a"])])
INVENTORY = Inventory.from_lexicon(LEXICON, "hmm", states_per_phone=1)
MODEL = AcousticModel(lambda f, n: (f, n), FrontEnd(), INVENTORY, 1, "mine", "f")


def scores(count: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, count)
    return {f"u{n}": rng.normal(0, 4, (length, len(INVENTORY))).astype(np.float32) for n, length in enumerate(lengths)}


@pytest.mark.parametrize("decoder", ["graph", pytest.param("k2", marks=needs_k2)])
def test_texts_are_those_of_each_utterance(decoder: str) -> None:
    search = Search(LEXICON, MODEL, insertion_penalty=0.5, beam=1000.0, decoder=decoder)
    graph = word_loop_graph(LEXICON, INVENTORY, insertion_penalty=0.5)
    expected = {key: graph.text(graph_decode(one, graph, beam=1000.0).words) for key, one in scores(40).items()}
    assert search.texts(scores(40).items()) == expected and len(set(expected.values())) > 5
    assert search.seconds > 0
    assert search.texts(iter(())) == {}


def test_scores_are_searched_as_they_come() -> None:
    search = Search(LEXICON, MODEL)
    searched: list[float] = []

    def coming() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for pair in scores(5).items():
            searched.append(search.seconds)
            yield pair

    search.texts(coming())
    assert len(searched) == 5 and searched == sorted(set(searched))  # each before the next is asked for


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "sphinx"}, "decoder is 'sphinx', but must be one of greedy, beam, graph, k2"),
        ({"beam": 0.0}, "beam is 0.0"),
        ({"max_active": 1}, "max_active 1"),
        ({"grammar": "lm.arpa", "insertion_penalty": 1.0}, "insertion_penalty is 1"),
    ],
)
def test_what_cannot_be_searched_is_said_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Search(LEXICON, MODEL, **options)


CTC_INVENTORY = Inventory(("<blk>", "a", "b", "c"), "ctc")
CTC_MODEL = AcousticModel(lambda f, n: (f, n), FrontEnd(), CTC_INVENTORY, 1, "mine", "f")
PATH = [0, 1, 1, 2, 0, 0, 2, 0, 2, 2, 1, 0]
PEAKED = np.log(np.eye(4, dtype=np.float32)[PATH] * 0.7 + 0.1).astype(np.float32)
SHIFT = 0.03


def test_words_have_times_and_confidences() -> None:
    found = next(Search(LEXICON, CTC_MODEL).decode([("u", PEAKED)]))
    assert found.text == "x y w" and [word.word for word in found.words] == ["x", "y", "w"]
    assert [(round(word.start / SHIFT), round(word.end / SHIFT)) for word in found.words] == [(1, 4), (6, 10), (10, 11)]
    expected = 0.8 / 1.1  # of one frame after the softmax
    assert [word.confidence for word in found.words] == pytest.approx([expected] * 3, abs=1e-3)


@pytest.mark.parametrize("decoder", ["greedy", "beam", "graph"])
def test_without_a_tokenizer_units_are_words(decoder: str) -> None:
    if decoder == "beam":
        pytest.importorskip("flashlight.lib.text.decoder")
    found = next(Search(None, CTC_MODEL, decoder=decoder).decode([("u", PEAKED)]))
    assert found.text == "a b b b a" and [word.word for word in found.words] == found.text.split()
    assert round(found.words[1].start / SHIFT) == 3


def test_characters_become_words_with_times() -> None:
    tokens = Characters(("<blk>", "\u2581", "a", "b"))
    inventory = Inventory.from_lexicon(tokens, "ctc")
    model = AcousticModel(lambda f, n: (f, n), FrontEnd(), inventory, 1, "mine", "f")
    path = [0, 1, 2, 3, 0, 3, 1, 1, 3, 3, 0]
    frames = np.log(np.eye(4, dtype=np.float32)[path] * 0.7 + 0.1)
    found = next(Search(tokens, model).decode([("u", frames)]))
    assert found.text == "abb b"
    assert [(round(word.start / SHIFT), round(word.end / SHIFT)) for word in found.words] == [(2, 6), (8, 10)]


def sentences_of(graph: Any, frames: NDArray[np.float32]) -> dict[tuple[str, ...], float]:
    """The best score of each word sequence, over every path."""
    best: dict[tuple[str, ...], float] = {}
    for words in itertools.chain.from_iterable(itertools.product(LEXICON.words, repeat=n) for n in range(4)):
        acceptor = "".join(f"{n} {n + 1} {1 + LEXICON.words.index(word)}\n" for n, word in enumerate(words))
        linear = kaldifst.compile(f"{acceptor}{len(words)}\n", acceptor=True)
        sorted_graph = graph.fst.copy()
        kaldifst.arcsort(sorted_graph, sort_type="olabel")
        said = kaldifst.compose(sorted_graph, linear)
        if said.num_states:
            one = DecodingGraph(said, graph.words, graph.inventory, graph.tokenizer)
            found = graph_decode(frames, one, beam=1e4)
            if found.complete:
                best[words] = found.score
    return best


@pytest.mark.parametrize("seed", range(5))
def test_the_n_best_of_a_graph_are_the_best_word_sequences(seed: int) -> None:
    frames = np.random.default_rng(seed).normal(0, 1, (4, len(INVENTORY))).astype(np.float32)
    graph = word_loop_graph(LEXICON, INVENTORY)
    expected = sorted(sentences_of(graph, frames).values(), reverse=True)
    found = next(Search(LEXICON, MODEL, n_best=3, beam=1e4).decode([("u", frames)]))
    scores = [found.score, *(score for _, score in found.alternatives)]
    assert scores == pytest.approx(expected[:3], abs=1e-3)
    assert len({found.text, *(text for text, _ in found.alternatives)}) == 3


def arpa(path: Path, words: list[str]) -> str:
    grams = "".join(f"-0.1\t{word}\t0\n" for word in ["<s>", *words]) + "-0.1\t</s>\n"
    path.write_text(
        f"\\data\\\nngram 1={len(words) + 2}\nngram 2=1\n\n\\1-grams:\n{grams}\n\\2-grams:\n-0.1\t<s> {words[0]}\n\n\\end\\\n"
    )
    return str(path)


def test_a_grammar_of_words_or_of_tokens_is_told_by_its_words(tmp_path: Path) -> None:
    pytest.importorskip("flashlight.lib.text.decoder")
    tokens = Characters(("<blk>", "\u2581", "a", "b"))
    inventory = Inventory.from_lexicon(tokens, "ctc")
    model = AcousticModel(lambda f, n: (f, n), FrontEnd(), inventory, 1, "mine", "f")
    frames = np.log(np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 3, 1, 3, 0]] * 0.95 + 0.01)
    for words, expected in [(["ab", "b", "bb"], "ab b"), (["\u2581", "a", "b"], "ab b"), (["bb", "ab"], "ab")]:
        grammar = arpa(tmp_path / "lm.arpa", words)
        for decoder in ("beam", "graph"):
            found = next(Search(tokens, model, decoder=decoder, grammar=grammar).decode([("u", frames)]))
            assert found.text == expected, (words, decoder)
    for search, message in [
        (lambda: Search(tokens, model, grammar=arpa(tmp_path / "other.arpa", ["xyz", "zz"])), "none of which is among"),
        (
            lambda: Search(LEXICON, CTC_MODEL, decoder="beam", grammar=arpa(tmp_path / "o.arpa", ["zz"])),
            "has none of the lexicon's",
        ),
        (lambda: Search(LEXICON, CTC_MODEL, grammar=arpa(tmp_path / "o.arpa", ["zz"])), "has none of the lexicon's"),
        (lambda: Search(None, CTC_MODEL, grammar=arpa(tmp_path / "o.arpa", ["zz"])), "none of which is among"),
    ]:
        with pytest.raises(CorpusError, match=message):
            search()


@pytest.mark.parametrize(
    ("tokenizer", "model", "grammar", "expected"),
    [
        (LEXICON, MODEL, None, "graph"),
        (LEXICON, CTC_MODEL, None, "graph"),
        (None, CTC_MODEL, None, "greedy"),
        (None, CTC_MODEL, "lm.arpa", "beam"),
        (LEXICON, CTC_MODEL, "lm.arpa", "graph"),
    ],
)
def test_the_best_decoder_for_an_inventory(tokenizer: Any, model: Any, grammar: str | None, expected: str) -> None:
    assert best_decoder(model.inventory, tokenizer, grammar)[0] == expected


@pytest.mark.parametrize(
    ("tokenizer", "model", "options", "message"),
    [
        (None, MODEL, {}, "spell no words by themselves; give the lexicon"),
        (LEXICON, MODEL, {"decoder": "greedy"}, "greedy decoding reads CTC outputs.*no blank"),
        (LEXICON, MODEL, {"decoder": "beam"}, "no blank"),
        (None, CTC_MODEL, {"grammar": "x", "decoder": "greedy"}, "grammar is given, but greedy"),
        (None, CTC_MODEL, {"n_best": 2}, "n_best is given, but greedy"),
        (LEXICON, CTC_MODEL, {"n_best": 0}, "n_best is 0"),
        (LEXICON, CTC_MODEL, {"lm_weight": 2.0}, "lm_weight is 2, but it is for the decoder beam"),
        (None, CTC_MODEL, {"grammar": "/none.arpa"}, "cannot be read: No such file"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tokenizer: Any, model: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(AsrkdError, match=message):
        Search(tokenizer, model, **options)
