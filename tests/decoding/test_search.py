from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from graph_helpers import needs_k2
from numpy.typing import NDArray

from asrkd.acoustic import AcousticModel
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.search import Search
from asrkd.errors import ConfigError
from asrkd.graphs import word_loop_graph

LEXICON = Lexicon.from_pairs([("x", ["a", "b"]), ("y", ["b", "b"]), ("w", ["a"])])
INVENTORY = Inventory.from_lexicon(LEXICON, "hmm", states_per_phone=1)
MODEL = AcousticModel(lambda f, n: (f, n), FrontEnd(), INVENTORY, 1, "mine", "f")


def scores(count: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, count)
    return {f"u{n}": rng.normal(0, 4, (length, len(INVENTORY))).astype(np.float32) for n, length in enumerate(lengths)}


@pytest.mark.parametrize("decoder", ["kaldi", pytest.param("k2", marks=needs_k2)])
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
        ({"decoder": "sphinx"}, "decoder is 'sphinx', but must be one of kaldi, k2"),
        ({"beam": 0.0}, "beam is 0.0"),
        ({"max_active": 1}, "max_active 1"),
        ({"grammar": "lm.arpa", "insertion_penalty": 1.0}, "insertion_penalty is 1"),
    ],
)
def test_what_cannot_be_searched_is_said_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Search(LEXICON, MODEL, **options)
