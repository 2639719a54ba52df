from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asrkd.errors import ConfigError, StoreError
from asrkd.targets.codecs import stream_codec
from asrkd.targets.packed import PackedTargets
from asrkd.targets.token_codec import TokenLists, TokenTargets, WrittenTokens

LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
TOKENS = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.floats(-50, 0)), max_size=6)
HYPOTHESES = st.lists(
    st.builds(
        lambda tokens, text, score: WrittenTokens([t for t, _ in tokens], [p for _, p in tokens], score, text),
        TOKENS, LINES, st.floats(-500, 0) | st.just(math.nan),
    ), min_size=1, max_size=3,
)  # fmt: skip


@given(st.lists(HYPOTHESES, min_size=1, max_size=5))
def test_round_trip(utterances: list[list[WrittenTokens]]) -> None:
    codec = stream_codec("tokens", "tokens:3")
    layout = codec.layout(0)
    rows = [layout.pack(some) for some in utterances]
    found = PackedTargets.join(layout, rows, [7] * len(rows)).unpack()
    assert isinstance(found, TokenTargets) and found.num_frames is None
    assert found.texts() == [[one.text for one in some] for some in utterances]
    flat = [one for some in utterances for one in some]
    assert found.ids.tolist() == [token for one in flat for token in one.ids]
    assert found.counts.tolist() == [len(one.ids) for one in flat]
    np.testing.assert_allclose(found.log_probs, [p for one in flat for p in one.log_probs], atol=6e-5, rtol=1e-6)
    np.testing.assert_allclose(found.scores, [one.score for one in flat], atol=6e-5, rtol=1e-6)
    assert [len(scores) for scores in found.scores_of_each()] == [len(some) for some in utterances]
    again = TokenTargets.cat([found, found.map(torch.clone)])
    assert again.texts() == found.texts() * 2 and again.frames(torch.tensor([3])) is again


def test_more_hypotheses_than_the_codec_has_are_left_out() -> None:
    some = [WrittenTokens([number], [-1.0], -1.0, f"text {number}") for number in range(4)]
    layout = TokenLists(2)
    assert PackedTargets.join(layout, [layout.pack(some)], [1]).unpack().texts() == [["text 0", "text 1"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("column", "change", "why"),
    [
        ("token_ids", lambda value: value[:-1], "2 tokens and 'token_log_probs' 3, where 'token_counts' says 3"),
        ("token_log_probs", lambda value: value[:-1], "3 tokens and 'token_log_probs' 2"),
        ("token_counts", lambda value: -value, "where 'token_counts' says -3"),
        ("token_counts", lambda value: np.append(value, np.int32(0)), "is of 3 hypotheses, 'token_texts' of 2"),
        ("token_scores", lambda value: value[:-1], "'token_scores' of 1"),
        ("token_texts", lambda value: value + b"\nmore", "'token_texts' of 3"),
        ("token_texts", lambda value: b"\xff\n" + value[:1], "is not UTF-8"),
        ("token_texts", lambda value: None, "'token_texts' is missing"),
    ],
)
def test_damaged_rows_are_refused(column: str, change: object, why: str) -> None:
    layout = TokenLists(2)
    row = layout.pack([WrittenTokens([1, 2], [-1.0, -2.0], -3.0, "one two"), WrittenTokens([3], [-1.0], -1.0, "three")])
    row[column] = change(row[column])  # type: ignore[operator]
    with pytest.raises(StoreError, match=why):
        layout.join([row], [1])


def test_wrong_specs() -> None:
    with pytest.raises(ConfigError, match="must be at least 1"):
        TokenLists(0)
    with pytest.raises(ConfigError, match="codec of tokens targets 'tokens' is not known; give tokens:N"):
        stream_codec("tokens", "tokens")
