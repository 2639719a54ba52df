from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from stream_helpers import FRONT_END

from asrkd.cache import FillCache, LruCache
from asrkd.errors import ConfigError
from asrkd.store import Store
from asrkd.streaming.loader import Loader
from asrkd.streaming.selection import Filter
from asrkd.streaming.source import Source
from asrkd.targets.streams import POSTERIORS

MakeStore = Callable[..., str]


def _ids(source: Source) -> list[str]:
    return [source.facts(position)["id"] for position in range(len(source))]


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_a_source_reads_every_row_of_every_shard(make_store: MakeStore, cache_mb: float) -> None:
    source = Source("s", Store.open(make_store(rows=150, shards=2)), cache_mb=cache_mb)
    assert _ids(source) == [f"u{number}" for number in range(150)]
    assert source.group_sizes.tolist() == [64, 11, 64, 11]  # 75 rows a shard, 64 rows a row group
    facts = source.facts(149)
    assert facts["custom"] == {"number": 149} and facts["num_frames"] == source.num_frames[149]
    assert list(source.rows.packed(facts)) == [POSTERIORS]
    assert source.store.targets(facts).num_frames == facts["num_frames"]
    assert source.hours == pytest.approx(sum(source.facts(i)["duration"] for i in range(150)) / 3600)


def test_filters(make_store: MakeStore) -> None:
    def forget(number: int, row: dict[str, Any]) -> None:
        if number == 15:
            row["confidence"] = None

    root = make_store(rows=20, change=forget)
    assert _ids(Source("s", Store.open(root), filter=Filter({"confidence": (0.095, 0.175)}))) == [
        "u10",
        "u11",
        "u12",
        "u13",
        "u14",
        "u16",
        "u17",
    ]
    assert _ids(Source("s", Store.open(root), filter=Filter(ids=frozenset({"u3", "u12", "x"})))) == ["u3", "u12"]
    assert _ids(
        Source("s", Store.open(root), filter=Filter({"num_frames": (None, 99)}, speakers=frozenset({"s2"})))
    ) == [f"u{number}" for number in range(2, 20, 3)]
    longest = Source("s", Store.open(root), filter=Filter({"duration": (0.3, None), "num_frames": (None, 20)}))
    every = Source("s", Store.open(root))
    assert _ids(longest) == [
        facts["id"] for facts in map(every.facts, range(20)) if facts["duration"] >= 0.3 and facts["num_frames"] <= 20
    ]
    with pytest.raises(ConfigError, match="of 20 utterances.*none"):
        Source("s", Store.open(root), filter=Filter({"confidence": (2.0, None)}))
    with pytest.raises(ConfigError, match="speaker"):
        Filter({"speaker": (None, None)})
    with pytest.raises(ConfigError, match=r"bounds of 'confidence' are \(0.9, 0.1\)"):
        Filter({"confidence": (0.9, 0.1)})


def test_the_fingerprint_follows_the_data_and_the_filter(make_store: MakeStore) -> None:
    root, same, other = make_store(rows=8), make_store(rows=8), make_store("v", rows=8)
    prints = [Source("s", Store.open(place)).fingerprint for place in (root, same, other)]
    prints.append(Source("s", Store.open(root), filter=Filter({"confidence": (0.05, None)})).fingerprint)
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_lru_cache_keeps_what_was_used_last() -> None:
    made: list[str] = []
    cache: LruCache[str] = LruCache(2)
    for key in "ababcab":
        if cache.get(key) is None:
            made.append(key)
            cache.put(key, key, 1)
    assert made == ["a", "b", "c", "a", "b"]


def test_fill_cache_keeps_what_came_first() -> None:
    made: list[str] = []
    cache: FillCache[np.ndarray] = FillCache(2)

    def get(key: str) -> None:
        cache.get(key, lambda: made.append(key) or np.zeros(1, np.int8), lambda value: value.nbytes)

    for key in "abcabc":
        get(key)
    assert made == ["a", "b", "c", "c"]


@pytest.mark.slow
def test_memory_holds_the_row_groups_of_a_block(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_store(rows=300, shards=1)
    read: list[tuple[int, int | None]] = []
    original = Store.read_row_group

    def counted(self: Store, unit: int, group: int, columns: Any = None) -> Any:
        read.append((unit, group))
        return original(self, unit, group, columns)

    monkeypatch.setattr(Store, "read_row_group", counted)
    options: dict[str, Any] = {"front_end": FRONT_END, "max_frames": 200, "max_utterances": 9, "cache_mb": 0}
    for cache_mb, reads in ((None, 10), (0.001, 50)):
        read.clear()
        with caplog.at_level("WARNING"):
            loader = Loader(
                {"s": Source("s", Store.open(root), cache_mb=cache_mb)}, block_utterances=128, prefetch=0, **options
            )
        list(loader.epoch("s"))
        # Facts and audio of five row groups, each at most once in each block that has rows of it.
        assert (len(read) <= 2 * reads) == (cache_mb is None)
    assert [record.message for record in caplog.records if "read again and again" in record.message]
