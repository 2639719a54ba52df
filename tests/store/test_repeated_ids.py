from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.store.repeated_ids import RepeatedIds, id_hashes


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 200).map(str), max_size=9), max_size=30), st.sampled_from([1, 5, 1000]))
def test_it_finds_what_a_counter_finds(batches: list[list[str]], run: int) -> None:
    with RepeatedIds(run=run) as ids:
        for batch in batches:
            ids.add(batch)
        found = ids.hashes().tolist()
    counts = Counter(key for batch in batches for key in batch)
    assert found == sorted(id_hashes([key for key, count in counts.items() if count > 1]).tolist())
