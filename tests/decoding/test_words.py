"""Times of words: those of a path that is made of them."""

from __future__ import annotations

import random

import numpy as np
import pytest

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.words import timed_words

LEXICON = Lexicon.from_pairs(
    [
        ("x", ["a", "b"]),
        ("y", ["b", "b"]),
        ("w", ["a"]),
        ("w", ["c", "b"]),
        ("z", ["a", "b", "a", "c"]),
        ("v", ["c", "a"]),
    ]
)


@pytest.mark.parametrize(("topology", "states"), [("ctc", 1), ("hmm", 1), ("hmm", 2)])
@pytest.mark.parametrize("seed", range(40))
def test_words_are_where_their_tokens_are(topology: str, states: int, seed: int) -> None:
    rng = random.Random(seed)
    inventory = Inventory.from_lexicon(LEXICON, topology, states_per_phone=states)
    words = [rng.choice(LEXICON.words) for _ in range(rng.randint(0, 12))]
    classes: list[int] = [0] * rng.randint(0, 2)
    places = []
    for word in words:
        ids = inventory.ids(rng.choice(LEXICON.pronunciations[word]))
        for number, label in enumerate(ids):
            if classes and classes[-1] == label:
                classes += [0] if topology == "ctc" or not number else []
            if not number:
                places.append((len(classes), len(classes)))
            classes += [label] * rng.randint(1, 3)
            places[-1] = (places[-1][0], len(classes))
        classes += [0] * rng.choice([0, 0, 1, 3])
    path = np.array(classes, dtype=np.int64)
    scores = np.random.default_rng(seed).normal(0, 1, (len(path), len(inventory))).astype(np.float32)
    found = timed_words(words, path, scores, 0.5, inventory, LEXICON)
    assert [word.word for word in found] == words
    assert all(0 < word.confidence <= 1 for word in found)
    spans = [(round(2 * word.start), round(2 * word.end)) for word in found]
    assert spans == places


def test_a_last_word_may_be_cut_off() -> None:
    inventory = Inventory.from_lexicon(LEXICON, "ctc")
    path = np.array([0, *inventory.ids(["a"]), *inventory.ids(["b", "a"])[:2], 0], dtype=np.int64)
    scores = np.zeros((len(path), len(inventory)), np.float32)
    found = timed_words(["z"], path, scores, 1.0, inventory, LEXICON)
    assert (found[0].start, found[0].end) == (1.0, 4.0) and found[0].confidence == pytest.approx(1 / len(inventory))
