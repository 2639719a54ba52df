"""A source with a catalog is the one without, and both are what a filter over all rows leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_helpers import make_loader, same_batches

from asrkd.errors import MismatchError
from asrkd.store import Identity, Store, manifest, snapshot
from asrkd.store.catalog_writer import write_catalog
from asrkd.store.files import Files
from asrkd.store.row_groups import RowGroups
from asrkd.store.writer import write_shard
from asrkd.streaming.plan import BatchConfig
from asrkd.streaming.sampler import Sampler
from asrkd.streaming.selection import Filter
from asrkd.streaming.source import Source

MakeStore = Callable[..., str]
IDENTITY = Identity(row_groups=RowGroups(64, 1 << 20))
PAIRS = st.tuples(st.one_of(st.none(), st.floats(0, 0.5)), st.one_of(st.none(), st.floats(0.5, 1)))


def _row(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """Of everything that a filter looks at, some missing, some without a frame."""
    frames = int(rng.integers(0, 40) * rng.integers(0, 5) / 4)
    return {
        "id": f"u{number}",
        "recording_id": "r",
        "start": 0.0,
        "duration": float(rng.random()),
        "sampling_rate": 16000,
        "num_samples": 160 * frames,
        "num_frames": frames,
        "speaker": [None, "a", "b", "é"][rng.integers(4)],
        "confidence": None if rng.random() < 0.2 else math.nan if rng.random() < 0.1 else float(rng.random()),
    }


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store without a catalog, and the same with one."""
    rng, roots = np.random.default_rng(0), []
    shards = [[_row(1000 * unit + number, rng) for number in range(size)] for unit, size in enumerate((70, 0, 1, 200))]
    for name in ("without", "with"):
        roots.append(str(tmp_path_factory.mktemp(name) / "store"))
        manifest.create(Files(roots[-1]), IDENTITY, {"num_units": 4, "num_cuts": 271, "hours": 1.0})
        for unit, rows in enumerate(shards):
            if unit == 3:
                snapshot.take(Store.open(roots[-1]), "three")
            write_shard(Files(roots[-1]), unit, rows, IDENTITY)
    write_catalog(Store.open(roots[1]))
    return roots[0], roots[1]


def _left(store: Store, chosen: Filter) -> list[tuple[int, int, int]]:
    """The oracle: every row, one at a time."""
    found = []
    for unit in store.units():
        for group in range(store.metadata(unit).num_row_groups):
            for number, row in enumerate(store.read_row_group(unit, group).to_pylist()):
                inside = all(
                    row[name] is not None
                    and (low is None or row[name] >= low)
                    and (high is None or row[name] <= high)
                    and not math.isnan(row[name])
                    for name, (low, high) in chosen.bounds.items()
                )
                member = (chosen.ids is None or row["id"] in chosen.ids) and (
                    chosen.speakers is None or row["speaker"] in chosen.speakers
                )
                if inside and member and row["num_frames"]:
                    found.append((unit, group, number))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    duration=st.one_of(st.none(), PAIRS),
    confidence=st.one_of(st.none(), PAIRS),
    speakers=st.one_of(st.none(), st.frozensets(st.sampled_from(["a", "b", "é", "none"]), min_size=1)),
    ids=st.one_of(st.none(), st.frozensets(st.sampled_from([f"u{n}" for n in range(3000, 3100)]), min_size=1)),
    name=st.sampled_from(["", "three"]),
)
def test_the_same_with_and_without_a_catalog(
    roots: tuple[str, str], duration: Any, confidence: Any, speakers: Any, ids: Any, name: str
) -> None:
    bounds = {key: pair for key, pair in (("duration", duration), ("confidence", confidence)) if pair}
    chosen = Filter(bounds, ids=ids, speakers=speakers)
    expected = _left(Store.open(roots[0], name), chosen)
    if not expected:
        return
    sources = [Source("s", Store.open(root, name), filter=chosen) for root in roots]
    for source in sources:
        assert source.places(np.arange(len(source))) == expected
        seconds = [source.facts(position)["duration"] for position in range(len(source))]
        frames = [source.facts(position)["num_frames"] for position in range(len(source))]
        assert source.hours == pytest.approx(sum(seconds) / 3600)
        assert source.num_frames[np.arange(len(source))].tolist() == frames
        assert source.num_frames.max() == max(frames)
    assert sources[0].fingerprint == sources[1].fingerprint
    limits = BatchConfig(400, 8, streams=1, block_utterances=50)
    keys = []
    for source in sources:
        sampler = Sampler({"s": source}, {"s": source.num_frames}, {"s": source.num_frames}, limits, seed=1)
        keys.append(list(sampler.epoch("s", 2)))
    assert keys[0] == keys[1]


def test_the_fingerprint_tells_what_is_left(roots: tuple[str, str]) -> None:
    prints = set()
    for chosen in (Filter(), Filter({"duration": (0.5, None)}), Filter({"duration": (0.51, None)})):
        prints |= {Source("s", Store.open(root), filter=chosen).fingerprint for root in roots}
    prints |= {Source("s", Store.open(root, "three")).fingerprint for root in roots}
    prints |= {Source("s", Store.open(root), filter=Filter({"duration": (0.0, 1.0)})).fingerprint for root in roots}
    assert len(prints) == 4


@pytest.mark.parametrize("first", [False, True])
def test_a_run_resumes_across_the_writing_of_a_catalog(make_store: MakeStore, first: bool, tmp_path: Path) -> None:
    roots = [make_store("u", rows=60, shards=3) for _ in range(2)]
    write_catalog(Store.open(roots[first]))
    loader = make_loader({"s": roots[1]})
    list(islice(loader.steps({"s": 1}), 3))
    state = loader.state_dict()
    expected = [batch for step in islice(loader.steps({"s": 1}), 9) for batch in step]
    other = make_loader({"s": roots[0]})
    other.load_state_dict(state)
    assert same_batches(expected, [batch for step in islice(other.steps({"s": 1}), 9) for batch in step])


@pytest.mark.parametrize("catalog", [False, True])
def test_a_shard_that_changes_under_a_run_is_refused(make_store: MakeStore, catalog: bool) -> None:
    root = make_store("u", rows=40, shards=2)
    if catalog:
        write_catalog(Store.open(root))
    loader = make_loader({"s": root})
    write_shard(Files(root), 1, list(Store.open(root).rows())[:20], Store.open(root).identity)
    with pytest.raises(MismatchError, match="part-00001.parquet of .* changed"):
        list(loader.epoch("s"))
