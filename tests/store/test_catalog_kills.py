"""Writers of catalogs and of shards are killed at any moment, while readers plan: never a wrong plan."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.errors import AsrkdError, MismatchError, StoreError
from asrkd.store import Identity, Store, manifest
from asrkd.store.catalog import NAME, open_index
from asrkd.store.catalog_writer import write_catalog
from asrkd.store.files import Files
from asrkd.store.schema import shard_name
from asrkd.store.writer import write_shard

KILLS = 50


def _rows(unit: int, version: int) -> list[dict[str, object]]:
    """Utterances whose lengths tell their unit and version."""
    count = 40 + version
    return [
        {"id": f"{unit}-{n}", "recording_id": "r", "start": 0.0, "duration": 1.0, "sampling_rate": 16000}
        | {"num_samples": 16000, "num_frames": 1 + 100 * unit + version}
        for n in range(count)
    ]


def _write_for_ever(root: str, seed: int) -> None:
    """Grow the store, label units again, and write the catalog, until killed."""
    chance = random.Random(seed)
    write_catalog(Store.open(root))  # what one who was killed left behind
    while True:
        time.sleep(chance.uniform(0, 0.1))
        unit = chance.randrange(6)
        write_shard(Files(root), unit, _rows(unit, chance.randrange(9)), Identity())
        write_catalog(Store.open(root), changed={unit})


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_fifty_kills(tmp_path: Path) -> None:
    root, chance = str(tmp_path / "store"), random.Random(0)
    manifest.create(Files(root), Identity(), {"num_units": 6, "num_cuts": 300, "hours": 1.0})
    write_shard(Files(root), 0, _rows(0, 0), Identity())
    right = 0
    for kill in range(KILLS):
        child = os.fork()
        if child == 0:
            try:
                _write_for_ever(root, kill)
            finally:
                os._exit(1)
        deadline = time.monotonic() + chance.uniform(0.01, 0.25)
        while time.monotonic() < deadline:
            right += _is_planned_right(root)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL  # it was at work until then
        _is_planned_right(root)
    # A shard that the catalog does not know: whether a kill falls there depends on the machine.
    write_shard(Files(root), 0, _rows(0, 9), Identity())
    assert right and not _is_planned_right(root)
    write_catalog(Store.open(root))
    assert _is_planned_right(root)
    left = set(os.listdir(f"{root}/catalog"))
    assert not [name for name in left if name.endswith(".tmp")] and os.path.basename(NAME) in left


@settings(max_examples=30, deadline=None)
@given(before=st.tuples(st.integers(0, 8), st.integers(0, 8)), after=st.tuples(st.integers(0, 8), st.integers(0, 8)))
def test_a_shard_that_another_replaces_is_not_read_by_the_footer_of_the_first(
    tmp_path_factory: pytest.TempPathFactory, before: tuple[int, int], after: tuple[int, int]
) -> None:
    """Of as many rows or of others: what is read is that of the footer, or refused."""
    root = str(tmp_path_factory.mktemp("store") / "store")
    manifest.create(Files(root), Identity(), {"num_units": 1, "num_cuts": 50, "hours": 1.0})
    first, second = (_rows(0, version)[: 40 + more] for version, more in (before, after))
    write_shard(Files(root), 0, first, Identity())
    store = Store.open(root)
    assert store.metadata(0).num_rows == len(first)
    write_shard(Files(root), 0, second, Identity())
    if first == second:
        assert store.column(0, "num_frames").to_pylist() == [row["num_frames"] for row in first]
        return
    with pytest.raises((MismatchError, StoreError), match=shard_name(0)):
        store.column(0, "num_frames")
    assert store.column(0, "num_frames").to_pylist() == [row["num_frames"] for row in second]


def _is_planned_right(root: str) -> bool:
    """Whether there is a plan, which is right; otherwise an error names what happened."""
    try:
        store = Store.open(root)
        index, chosen = open_index(store, ["num_frames"])
        store.expect(index.shards[chosen])
        for place in np.flatnonzero(chosen):
            unit = int(index.shards["unit"][place])
            planned = index.column("num_frames")[index.row_edges[place] : index.row_edges[place + 1]].tolist()
            assert planned == store.column(unit, "num_frames").to_pylist()
    except AsrkdError as error:
        text = str(error)
        assert any(shard_name(unit) in text for unit in range(6)) or "catalog" in text, text
        return False
    return True
