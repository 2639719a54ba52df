from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from asrkd.cli import cli
from asrkd.errors import StoreError
from asrkd.labeling.local import run
from asrkd.labeling.plan import plan
from asrkd.store import Store, delete
from asrkd.store.delete import deleted_ids
from asrkd.store.verify import verify
from asrkd.store.writer import write_shard


@pytest.fixture
def root(corpus: Path, tmp_path: Path) -> str:
    """A store of 24 utterances by 3 speakers in several shards."""
    plan(str(corpus / "labeled.jsonl.gz"), str(tmp_path / "store"), embed="audio", unit_hours=0.003)
    run(str(tmp_path / "store"))
    return str(tmp_path / "store")


def shards(root: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(root, "shards").glob("*.parquet"))}


def ids(root: str) -> list[str]:
    return [row["id"] for row in Store.open(root).rows(["id"])]


def test_only_the_touched_shards_change(root: str) -> None:
    before, rows = shards(root), list(Store.open(root).rows())
    assert len(before) > 2
    (unit,) = delete.delete(root, ids=["labeled-5"])
    after = shards(root)
    assert [name for name in before if before[name] != after[name]] == [f"part-{unit:05d}.parquet"]
    assert ids(root) == [row["id"] for row in rows if row["id"] != "labeled-5"]
    assert deleted_ids(root, unit) == ["labeled-5"]
    assert verify(root) == []
    # Nothing of the utterance is left, and labeling does not bring it back.
    gone = next(row for row in rows if row["id"] == "labeled-5")
    assert not any(gone["audio"]["bytes"] in content for content in after.values())
    run(root)
    assert shards(root) == after


def test_a_speaker_and_an_id(root: str) -> None:
    kept = [row["id"] for row in Store.open(root).rows(["id", "speaker"]) if row["speaker"] != "speaker-1"]
    found = delete.delete(root, ids=[kept[0]], speakers=["speaker-1"])
    assert ids(root) == kept[1:] and sum(map(len, found.values())) == 24 - len(kept) + 1
    assert verify(root) == []


def test_killed_between_the_record_and_the_shard(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the second shard's write the process dies; the same call afterwards ends as an undisturbed one."""
    other = tmp_path / "other"
    shutil.copytree(root, other)
    delete.delete(str(other), speakers=["speaker-2"])
    written = []

    def dying(*arguments: object) -> int:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(arguments)
        return write_shard(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(delete, "write_shard", dying)
        with pytest.raises(KeyboardInterrupt):
            delete.delete(root, speakers=["speaker-2"])
    assert shards(root) != shards(str(other))
    delete.delete(root, speakers=["speaker-2"])
    assert shards(root) == shards(str(other))
    delete.delete(root, ids=deleted_ids(root, 0))  # gone already: nothing to do
    assert shards(root) == shards(str(other)) and verify(root) == []


def test_a_dry_run_changes_nothing_and_unknown_names_are_refused(root: str) -> None:
    before = shards(root)
    result = CliRunner().invoke(cli, ["store", "delete", root, "--speaker", "speaker-0", "--dry-run"])
    assert result.exit_code == 0 and "8 utterances in" in result.output and "would be deleted" in result.output
    with pytest.raises(StoreError, match=r"has no id 'labeled-99' \(2 names are unknown\), so nothing was deleted"):
        delete.delete(root, ids=["labeled-99", "labeled-1"], speakers=["nobody"])
    assert shards(root) == before
    result = CliRunner().invoke(cli, ["store", "delete", root])
    assert result.exit_code == 2 and "--id or --speaker" in result.output
