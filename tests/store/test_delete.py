from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import kill_at_random

from asrkd.cli import cli
from asrkd.corpus.cuts import open_cuts
from asrkd.errors import StoreError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store, delete
from asrkd.store.delete import deleted_ids
from asrkd.store.files import Files
from asrkd.store.verify import verify


@pytest.fixture
def root(corpus: Path, tmp_path: Path) -> str:
    """A store of 24 utterances by 3 speakers in several shards."""
    plan(str(corpus / "labeled.jsonl.gz"), str(tmp_path / "store"), embed="audio", unit_hours=0.003)
    run(Local(Store.open(str(tmp_path / "store"))))
    return str(tmp_path / "store")


def shards(root: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(root, "shards").glob("*.parquet"))}


def files(root: str) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


def ids(root: str) -> list[str]:
    return [row["id"] for row in Store.open(root).rows(["id"])]


def test_only_the_touched_shards_change(root: str) -> None:
    before, rows = shards(root), list(Store.open(root).rows())
    assert len(before) > 2
    (unit,) = delete.delete(Store.open(root), ids=["labeled-5"])
    after = shards(root)
    assert [name for name in before if before[name] != after[name]] == [f"part-{unit:05d}.parquet"]
    assert ids(root) == [row["id"] for row in rows if row["id"] != "labeled-5"]
    assert deleted_ids(Files(root), unit) == ["labeled-5"]
    assert verify(root) == []
    # Nothing of the utterance is left, and labeling does not bring it back.
    gone = next(row for row in rows if row["id"] == "labeled-5")
    assert not any(gone["audio"]["bytes"] in content for content in after.values())
    run(Local(Store.open(root)))
    assert shards(root) == after


def test_a_speaker_and_an_id(root: str) -> None:
    kept = [row["id"] for row in Store.open(root).rows(["id", "speaker"]) if row["speaker"] != "speaker-1"]
    found = delete.delete(Store.open(root), ids=[kept[0]], speakers=["speaker-1"])
    assert ids(root) == kept[1:] and sum(map(len, found.values())) == 24 - len(kept) + 1
    assert verify(root) == []


def test_nothing_of_a_deleted_speaker_is_left_even_of_units_that_are_not_labeled_yet(root: str, corpus: Path) -> None:
    texts = {cut.id: cut.supervisions[0].text for cut in open_cuts(str(corpus / "labeled.jsonl.gz"))}
    first = sorted(Path(root, "shards").glob("*.parquet"))[0]
    first.unlink()
    gone = [key for keys in delete.delete(Store.open(root), speakers=["speaker-1"]).values() for key in keys]
    assert len(gone) == 8
    run(Local(Store.open(root)))
    assert verify(root) == [] and first.exists()
    assert sorted(ids(root)) == sorted(key for key in texts if key not in gone)
    for path in Path(root).rglob("*"):
        if path.is_file() and path.parent.name != "deleted":
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            assert not any(f'"{key}"'.encode() in content for key in gone) and b"speaker-1" not in content, path


@pytest.mark.slow
def test_killed_deletions_end_as_an_undisturbed_one(
    root: str, tmp_path: Path, asrkd_command: Callable[..., list[str]]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(root, other)
    delete.delete(Store.open(str(other)), speakers=["speaker-2"])

    def written() -> list[int]:
        return [path.stat().st_mtime_ns for path in sorted(Path(root).rglob("*.*")) if not path.name.startswith(".")]

    # By id: a deletion that was done already is then no error. (The names of deleted speakers are not kept.)
    options = [f"--id={key}" for unit in range(len(shards(root))) for key in deleted_ids(Files(str(other)), unit)]
    killed = kill_at_random(asrkd_command("store", "delete", root, *options), kills=3, seed=5, watch=written)
    for path in Path(root).rglob(".*.tmp"):
        path.unlink()
    assert files(root) == files(str(other)) and verify(root) == []
    delete.delete(Store.open(root), ids=deleted_ids(Files(root), 0))  # gone already: nothing to do
    assert files(root) == files(str(other))
    assert killed > 0


def test_a_dry_run_changes_nothing_and_unknown_names_are_refused(root: str) -> None:
    before = shards(root)
    result = CliRunner().invoke(cli, ["store", "delete", root, "--speaker", "speaker-0", "--dry-run"])
    assert result.exit_code == 0 and "8 utterances of" in result.output and "would be deleted" in result.output
    with pytest.raises(StoreError, match=r"has no id 'labeled-99' \(2 names are unknown\), so nothing was deleted"):
        delete.delete(Store.open(root), ids=["labeled-99", "labeled-1"], speakers=["nobody"])
    assert shards(root) == before
    result = CliRunner().invoke(cli, ["store", "delete", root])
    assert result.exit_code == 2 and "--id or --speaker" in result.output
