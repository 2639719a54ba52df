from __future__ import annotations

from collections import Counter

import pytest

from asrkd.errors import ConfigError
from asrkd.streaming.mixture import check_mixture, source_at


def test_every_group_holds_its_shares_in_an_order_that_varies() -> None:
    mixture = {"soft": 3, "labeled": 1}
    groups = [tuple(source_at(mixture, 4 * group + place, 7) for place in range(4)) for group in range(50)]
    assert all(Counter(group) == {"soft": 3, "labeled": 1} for group in groups)
    assert len(set(groups)) == 4


def test_the_pattern_does_not_depend_on_the_order_of_names_or_on_empty_shares() -> None:
    first = [source_at({"a": 2, "b": 1}, step, 0) for step in range(30)]
    assert first == [source_at({"b": 1, "c": 0, "a": 2}, step, 0) for step in range(30)]
    assert first != [source_at({"a": 2, "b": 1}, step, 1) for step in range(30)]


@pytest.mark.parametrize(
    ("mixture", "message"),
    [({"x": 1}, "'x'"), ({"a": 0.5}, "0.5"), ({"a": -1}, "-1"), ({"a": 0}, "no source"), ({}, "no source")],
)
def test_what_is_no_mixture_is_refused(mixture: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_mixture(mixture, ["a", "b"])
