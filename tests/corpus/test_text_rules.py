"""Normalization of transcripts: what it does, that twice is once, and that tokenizers and checkpoints keep it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd import config, text
from asrkd.corpus.characters import Characters, table_of_characters
from asrkd.corpus.inventory import Inventory, InventoryConfig
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.tokenizer import (
    normalized,
    searched,
    spell,
    tokenizer_from_dict,
    tokenizer_to_dict,
    units_are_no_text,
    vocabulary,
    with_rules,
)
from asrkd.corpus.units import Units, tokenizer_of_units
from asrkd.errors import ConfigError, CorpusError

RULES = st.builds(
    TextRules,
    case=st.sampled_from(["keep", "lower", "upper"]),
    punctuation=st.sampled_from(["keep", "remove"]),
    form=st.sampled_from(["none", "nfc", "nfkc"]),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("'’.,-ÉÀİßΣŉﬁ… \u0301"))


@given(RULES, TEXTS)
def test_twice_is_once(rules: TextRules, said: str) -> None:
    once = rules(said)
    assert rules(once) == once == " ".join(text.words(once))
    if rules.form != "none":
        assert unicodedata.is_normalized(rules.form.upper(), once)
    if rules.punctuation == "remove":
        assert not {c for c in once if unicodedata.category(c)[0] == "P"} - {"'"}


@pytest.mark.parametrize(
    ("rules", "said", "expected"),
    [
        ({}, "Cafe\u0301  NOËL, 42!", "Café NOËL, 42!"),
        ({"case": "lower"}, "Don't STOP", "don't stop"),
        ({"case": "upper"}, "straße", "STRASSE"),
        ({"punctuation": "remove"}, "“Don’t,” he said: 'well-known' 3.5 rock 'n' roll", "Don't he said well known 3 5 rock n roll"),
        ({"form": "nfkc"}, "ＡＢ ﬁ", "AB fi"),
        ({"form": "none"}, "Cafe\u0301", "Cafe\u0301"),
        ({"punctuation": "remove"}, "?!", ""),
    ],
)  # fmt: skip
def test_what_it_does(rules: dict[str, str], said: str, expected: str) -> None:
    assert TextRules(**rules)(said) == expected


@given(RULES, st.lists(TEXTS.filter(lambda said: "▁" not in said), min_size=1))
def test_a_tokenizer_spells_and_reads_normalized_text(rules: TextRules, texts: list[str]) -> None:
    if not any(map(rules, texts)):
        return
    tokenizer = with_rules(Characters.of(table_of_characters([rules(said) for said in texts])), rules)
    kept = tokenizer_from_dict(tokenizer_to_dict(tokenizer))
    assert kept == tokenizer
    for said in texts:
        ids = [number for spellings in kept.encode(said) for number in spellings[0]]
        assert kept.decode(ids) == rules(said) == normalized(kept, said)


def test_a_lexicon_is_kept_whole() -> None:
    lexicon = Lexicon.from_pairs([("Don't", ["d", "ə"]), ("a", ["x"]), ("a", ["y", "x"]), ("b", ["x"])])
    kept = tokenizer_from_dict(tokenizer_to_dict(lexicon))
    assert kept == lexicon and kept.tokens == lexicon.tokens  # type: ignore[union-attr]
    upper = with_rules(Lexicon.from_pairs([("DON'T", ["d"])]), TextRules(case="upper", punctuation="remove"))
    assert spell(upper, "don’t, don't!") == [[("d",)], [("d",)]]
    # The words that a search finds are the lexicon's own.
    assert vocabulary(with_rules(lexicon, TextRules(case="upper")))["Don't"] == [("d", "ə")]


def test_a_tokenizer_that_is_not_known_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert tokenizer_from_dict({"kind": "morse", "text": {}, "values": {}}) is None
    assert "'morse', which is not known here" in caplog.text


def test_units_of_a_teacher_are_read_as_far_as_they_say_what_they_are() -> None:
    characters = tokenizer_of_units(Inventory(("<blk>", "<s>", "|", "A", "B"), "ctc"))
    assert characters.encode("AB A") == [[(3, 4)], [(2, 3)]]
    pieces = tokenizer_of_units(Inventory(("<blk>", "<unk>", "▁the", "n", "▁"), "ctc"))
    assert pieces.decode([0, 2, 3, 1, 4, 3, 0]) == "then n"
    phones = tokenizer_of_units(Inventory(("SIL", "a_0", "a_1", "b_0", "b_1"), "hmm", 2))
    assert isinstance(phones, Units) and phones.tokens == ("SIL", "a", "b") and phones.decode([1, 2, 1]) == "a b a"
    assert [units_are_no_text(with_rules(one, TextRules())) for one in (characters, pieces, phones)] == [
        False,
        False,
        True,
    ]
    # Phones of one letter are not characters: no word boundary is among them.
    single = tokenizer_of_units(Inventory(("<blk>", "a", "b"), "ctc"))
    with pytest.raises(
        CorpusError, match=r"utterance 'x': nothing says how 'a b' is spelled with the 3 units .*inventory.lexicon"
    ):
        single.encode("a b", what="utterance 'x'")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, "lexicon: is required, but not set"),
        ({"lexicon": ""}, "lexicon: is required, but not set"),
        ({"lexicon": "a", "text": {"case": "title"}}, "text.case: must be one of keep, lower, upper, not 'title'"),
        ({"lexicon": "a", "text": {"form": "nfd"}}, "text.form: must be one of"),
        ({"lexicon": "a", "text": {"punctation": "remove"}}, "text.punctation: there is no such key; did you mean 'text.punctuation'"),
    ],
)  # fmt: skip
def test_configs_that_cannot_be(values: dict, why: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.from_dict(InventoryConfig, values)
    assert why in str(error.value)


def test_what_a_search_is_to_find() -> None:
    rules = TextRules(case="lower", punctuation="remove")
    lexicon = with_rules(Lexicon.from_pairs([("low", ["l"]), ("up", ["u"])]), rules)
    assert searched(lexicon, "Low, UP!") == ["low", "up"]
    characters = with_rules(Characters.of(("<blk>", "▁", *"lopuw")), rules)
    assert searched(characters, "Low, UP!") == ["▁", "l", "o", "w", "▁", "u", "p"]
    for tokenizer, said in ((lexicon, "low up"), (characters, "Up low")):
        assert set(searched(tokenizer, said)) <= set(vocabulary(tokenizer))
