from __future__ import annotations

import pytest

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.tokens import Tokens
from asrkd.errors import CorpusError

LEXICON = Lexicon.from_pairs([("x", ["a", "b"]), ("y_1", ["b_2", "a"]), ("x", ["b"])])


@pytest.mark.parametrize(("topology", "states"), [("ctc", 1), ("hmm", 1), ("hmm", 3)])
def test_tokens_pass_through_the_classes_that_the_inventory_gives_their_phones(topology: str, states: int) -> None:
    inventory = Inventory.from_lexicon(LEXICON, topology, states_per_phone=states)
    tokens = Tokens.of(inventory)
    assert tokens.silence == (None if topology == "ctc" else 1)
    for name, own in zip(tokens.names, tokens.states, strict=True):
        assert list(own) == inventory.ids([name])
    for word, number in (("x", 1), ("y_1", 2)):
        for phones in LEXICON.pronunciations[word]:
            ids = tokens.ids(phones)
            assert [label for token in ids for label in tokens.states[token - 1]] == inventory.ids(phones)
            assert (number, ids) in tokens.pronunciations(LEXICON)
    spelled = tokens.spell("y_1 x", LEXICON)
    assert [len(one) for one in spelled] == [1, 2]


def test_an_alignment_is_read_as_tokens() -> None:
    tokens = Tokens.of(Inventory.from_lexicon(LEXICON, "hmm", states_per_phone=2))
    a, b = tokens.ids(["a"])[0], tokens.ids(["b"])[0]
    classes = [0, 0, *tokens.states[a - 1], tokens.states[b - 1][0], *tokens.states[b - 1], 0]
    assert tokens.read(classes) == [1, a, b, 1]
    with pytest.raises(CorpusError, match="phone 'q' is not among the 4 tokens"):
        tokens.ids(["q"])
