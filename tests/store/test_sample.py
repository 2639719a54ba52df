from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.store.sample import Sample


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.floats(-9, 9), max_size=20), max_size=20), st.integers(1, 40))
def test_a_sample_is_all_or_a_part_in_order(parts: list[list[float]], most: int) -> None:
    sample, again = Sample(most=most), Sample(most=most)
    for part in parts:
        sample.add(part)
        again.add(part)
        again.values  # noqa: B018  looking at it changes nothing
    every = [value for part in parts for value in part]
    assert sample.count == len(every) and np.isclose(sample.mean * len(every), sum(every), atol=1e-9)
    assert len(sample.values) == min(most, len(every))
    # Subsequence of the stream.
    stream = iter(every)
    assert all(any(value == other for other in stream) for value in sample.values.tolist())
    assert sample.values.tolist() == again.values.tolist()


def test_each_number_has_the_same_chance() -> None:
    sample = Sample(most=2000)
    for begin in range(0, 100_000, 777):
        sample.add(np.arange(begin, min(begin + 777, 100_000)))
    shares = np.histogram(sample.values, 10, (0, 100_000))[0] / 2000
    assert np.all(np.abs(shares - 0.1) < 0.03)
