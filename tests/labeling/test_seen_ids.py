from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.labeling import seen_ids
from asrkd.labeling.seen_ids import SeenIds


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60).map(str), max_size=9), max_size=30), st.sampled_from([4, 1 << 22]))
def test_it_is_a_set(batches: list[list[str]], largest_run: int) -> None:
    before, seen_ids._LARGEST_RUN = seen_ids._LARGEST_RUN, largest_run
    try:
        seen, truth = SeenIds(), set()
        for batch in batches:
            assert list(seen.contains(batch)) == [key in truth for key in batch]
            expected = []
            for key in batch:
                expected.append(key in truth)
                truth.add(key)
            assert list(seen.add(batch)) == expected
    finally:
        seen_ids._LARGEST_RUN = before
