from __future__ import annotations

import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd.corpus.text_flags import (
    FLAGS,
    FlagLimits,
    characters_per_second,
    compression,
    flag_bits,
    has_strange_characters,
    judge,
    repetition,
)
from asrkd.errors import ConfigError

WORDS = st.lists(st.text(alphabet="abcdefghijklmnop", min_size=2, max_size=8), min_size=1, max_size=8, unique=True)


@given(WORDS, st.integers(4, 60), WORDS)
def test_loops_are_found(block: list[str], copies: int, before: list[str]) -> None:
    looped = before + block * copies
    assert repetition(" ".join(looped)) >= len(block) * copies / len(looped) - 1e-9


@given(st.lists(st.text(alphabet="abcdefghijklmnop", min_size=3, max_size=8), min_size=1, max_size=60, unique=True))
def test_different_words_are_no_loop(words: list[str]) -> None:
    text = " ".join(words)
    if all(len(set(word)) == len(word) for word in words):
        assert repetition(text) <= 0.5
    assert "repetition" not in judge("we have walked the whole way home", 2.0, FlagLimits()).flags


@given(st.text(max_size=300), st.floats(0.0, 100.0))
def test_figures_of_any_text(text: str, seconds: float) -> None:
    assert 0 <= repetition(text) <= 1
    data = text.encode("utf-8", "surrogatepass")
    assert compression(text) == len(data) / len(zlib.compress(data))
    rate = characters_per_second(text, seconds)
    assert rate >= 0 and (math.isinf(rate) or rate * seconds <= len(text) + 1e-6)
    found = judge(text, seconds, FlagLimits())
    assert list(found.flags) == [name for name in FLAGS if name in found.flags]
    assert ("empty" in found.flags) == (not text)
    bits = flag_bits(found.flags)
    assert [name for number, name in enumerate(FLAGS) if bits >> number & 1] == list(found.flags)


@pytest.mark.parametrize(
    ("text", "seconds", "given", "flags"),
    [
        ("can i have a light roast coffee", 3.0, {}, set()),
        ("thank you " * 40, 5.0, {}, {"repetition", "compression", "long"}),
        ("o" * 60, 5.0, {}, {"repetition", "compression"}),
        ("哈" * 20, 5.0, {}, {"repetition", "compression"}),
        ("", 5.0, {}, {"short", "empty"}),
        ("", 1.0, {}, {"empty"}),
        ("okay", 8.0, {}, {"short"}),
        ("twelve ounces please now", 2.0, {"finished": False}, {"unfinished"}),
        ("you you said so", 2.0, {"no_speech": 0.9}, {"no_speech"}),
        ("guten morgen", 2.0, {"language": "de", "expected_language": "en"}, {"language"}),
        ("guten morgen", 2.0, {"language": "de", "language_probability": 0.3}, {"language"}),
        ("guten morgen", 2.0, {"language": "de", "language_probability": 0.9}, set()),
        ("room 12", 2.0, {}, {"charset"}),
        ("16 ounce", 2.0, {"ambiguous": True}, {"charset", "ambiguous"}),
        ("don't stop half-way", 2.0, {}, set()),
        ("привет world", 2.0, {}, {"charset"}),
        ("これは漢字とカタカナー々です", 4.0, {}, set()),
        ("naïve façade", 2.0, {}, set()),
        ("na\u0308ive", 2.0, {}, set()),
        ("♪ la la", 2.0, {}, {"charset"}),
        ("bad \ufffd byte", 2.0, {}, {"charset"}),
    ],
)
def test_flags(text: str, seconds: float, given: dict, flags: set[str]) -> None:
    assert set(judge(text.strip(), seconds, FlagLimits(), **given).flags) == flags


def test_what_normalization_removes_may_be_what_repeats() -> None:
    assert "repetition" in judge("hm", 1.0, FlagLimits(), raw="hm ! ! ! ! ! ! !").flags


def test_allowed_characters() -> None:
    assert has_strange_characters("abc d", "abc") and not has_strange_characters("abc cba", "abc")
    assert not has_strange_characters("room 12", "abcdefghijklmnopqrstuvwxyz12")


def test_limits_are_checked() -> None:
    with pytest.raises(ConfigError, match="flags.max_repetition"):
        FlagLimits(max_repetition=2.0)
