from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from asrkd.cli import cli
from asrkd.errors import ConfigError, StoreError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.snapshot import take
from asrkd.streaming.source import Source


@pytest.fixture
def root(corpus: Path, tmp_path: Path) -> str:
    plan(str(corpus / "labeled.jsonl.gz"), str(tmp_path / "store"), embed="audio", unit_hours=0.003)
    run(Local(Store.open(str(tmp_path / "store"))))
    return str(tmp_path / "store")


def test_a_snapshot_does_not_see_what_is_labeled_later(root: str) -> None:
    shard = Path(root, "shards/part-00001.parquet")
    content = shard.read_bytes()
    shard.unlink()
    result = CliRunner().invoke(cli, ["store", "snapshot", root, "monday"])
    count = len(Store.open(root).units())
    assert result.exit_code == 0 and result.output == f"snapshot 'monday': {count} units\n"
    before = Source("labeled", Store.open(root, "monday"))
    ids = [row["id"] for row in Store.open(root, "monday").rows(["id"])]
    shard.write_bytes(content)
    after = Source("labeled", Store.open(root, "monday"))
    assert len(after) == len(before) == len(ids) < len(Source("labeled", Store.open(root)))
    assert after.fingerprint == before.fingerprint != Source("labeled", Store.open(root)).fingerprint
    assert [after.facts(n)["id"] for n in range(len(after))] == ids


def test_what_cannot_be_pinned_or_opened(root: str, corpus: Path, tmp_path: Path) -> None:
    take(Store.open(root), "a")
    with pytest.raises(StoreError, match="has a snapshot 'a' already"):
        take(Store.open(root), "a")
    with pytest.raises(ConfigError, match="snapshot name '../a' is not of letters"):
        take(Store.open(root), "../a")
    with pytest.raises(StoreError, match=r"has no snapshot 'b' \(it has: a\)"):
        Store.open(root, "b")
    Path(root, "shards/part-00000.parquet").unlink()
    with pytest.raises(StoreError, match="snapshot 'a' of .* pins unit 0, whose shard is gone"):
        Store.open(root, "a")
    plan(str(corpus / "labeled.jsonl.gz"), str(tmp_path / "new"), embed="audio")
    with pytest.raises(StoreError, match="has no finished shard yet"):
        take(Store.open(str(tmp_path / "new")), "a")
