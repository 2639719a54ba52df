from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from asrkd.errors import ConfigError
from asrkd.streaming.mixture import Phase, check_phases, endless, phase_at, source_at


def test_every_group_holds_its_shares_in_an_order_that_varies() -> None:
    phase = Phase(None, {"soft": 3, "labeled": 1})
    groups = [tuple(source_at(phase, 4 * group + place, 7) for place in range(4)) for group in range(50)]
    assert all(Counter(group) == {"soft": 3, "labeled": 1} for group in groups)
    assert len(set(groups)) == 4


def test_streams_share_the_groups() -> None:
    phase = Phase(None, {"soft": 3, "labeled": 1})
    dealt = [source_at(phase, step, 7, stream=stream, streams=2) for step in range(20) for stream in range(2)]
    assert dealt == [source_at(phase, number, 7) for number in range(40)]


def test_the_pattern_does_not_depend_on_the_order_of_names_or_on_empty_shares() -> None:
    first = [source_at(Phase(None, {"a": 2, "b": 1}), step, 0) for step in range(30)]
    assert first == [source_at(Phase(None, {"b": 1, "c": 0, "a": 2}), step, 0) for step in range(30)]
    assert first != [source_at(Phase(None, {"a": 2, "b": 1}), step, 1) for step in range(30)]


def test_moving_shares_are_kept_at_every_point_of_the_phase() -> None:
    phase = Phase(4000, {"soft": 3, "labeled": 1}, until={"labeled": 1})
    drawn = np.array([source_at(phase, step, 3) == "labeled" for step in range(4000)])
    for start in range(0, 4000, 200):
        expected = 0.25 + 0.75 * (start + 100) / 4000
        assert abs(drawn[start : start + 200].mean() - expected) < 0.02


def test_phases_follow_one_another() -> None:
    schedule = [Phase(2, {"a": 1}), Phase(3, {"b": 1})]
    assert [phase_at(schedule, step) for step in range(6)] == [
        (schedule[0], 0),
        (schedule[0], 1),
        (schedule[1], 0),
        (schedule[1], 1),
        (schedule[1], 2),
        None,
    ]
    assert phase_at(endless({"a": 1}), 10**12) is not None


@pytest.mark.parametrize(
    ("mixture", "message"),
    [({"x": 1}, "'x'"), ({"a": 0.5}, "0.5"), ({"a": -1}, "-1"), ({"a": 0}, "no source"), ({}, "no source")],
)
def test_what_is_no_mixture_is_refused(mixture: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_phases(endless(mixture), ["a", "b"])
    with pytest.raises(ConfigError, match=message):
        check_phases([Phase(3, {"a": 1}, until=mixture)], ["a", "b"])


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([], "no phases"),
        ([Phase(None, {"a": 1}), Phase(1, {"a": 1})], "phase 0 .* no end"),
        ([Phase(0, {"a": 1})], "0 steps"),
        ([Phase(None, {"a": 1}, until={"b": 1})], "give its steps"),
    ],
)
def test_what_is_no_schedule_is_refused(schedule: list[Phase], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_phases(schedule, ["a", "b"])
