from __future__ import annotations

from pathlib import Path

import pytest
from helpers import make_teacher

from asrkd.errors import ConfigError, StoreError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.compact import compact
from asrkd.store.delete import delete
from asrkd.store.verify import verify


@pytest.fixture
def root(corpus: Path, tmp_path: Path) -> str:
    teacher = make_teacher(tmp_path / "teacher.pt")
    cuts = str(corpus / "unlabeled.jsonl.gz")
    plan(cuts, str(tmp_path / "store"), teacher=teacher, codec="hybrid:2:8", embed="audio", unit_hours=0.001)
    run(Local(Store.open(str(tmp_path / "store"))))
    return str(tmp_path / "store")


def test_the_copy_holds_the_same_rows_in_fewer_shards(root: str, tmp_path: Path) -> None:
    delete(Store.open(root), ids=["unlabeled-4"])
    before = Store.open(root)
    out = str(tmp_path / "out")
    count = compact(Store.open(root), out, shard_hours=0.002)
    after = Store.open(out)
    assert 1 < count < len(before.units()) and after.units() == list(range(count))
    assert after.identity == before.identity
    for one, other in zip(before.rows(), after.rows(), strict=True):
        assert one.keys() == other.keys() and repr(one) == repr(other)
    index = after.index(["duration"])
    durations = [index.filter(index["unit"].to_numpy() == u) for u in range(count)]
    assert all(sum(table["duration"].to_pylist()) >= 0.002 * 3600 for table in durations)
    assert verify(out) == [] and run(Local(Store.open(out))).labeled == 0
    assert (
        compact(Store.open(root), str(tmp_path / "one"), shard_hours=100) == 1 and verify(str(tmp_path / "one")) == []
    )


def test_what_cannot_be_compacted_is_refused(root: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a store already"):
        compact(Store.open(root), root)
    with pytest.raises(ConfigError, match="shard_hours is 0"):
        compact(Store.open(root), str(tmp_path / "out"), shard_hours=0)
    Path(root, "shards/part-00002.parquet").unlink()
    with pytest.raises(StoreError, match=r"not finished: 1 work units have no shard \(first: 2\)"):
        compact(Store.open(root), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
