"""Every stage of recipes/librispeech on a small tree of its layout, and what is wrong with others."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asrkd.evaluation.wer import Errors

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes/librispeech"
SPEECH = ROOT / "tests/data/speech"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "recipes")])
    command = [sys.executable, str(RECIPE / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})


def write_cuts(folder: Path) -> Path:
    """The table of the clips in the test data, as `asrkd` reads tables."""
    lines = (SPEECH / "utts.tsv").read_text(encoding="utf-8").replace("\tpath\t", "\taudio\t", 1)
    (folder / "utts.tsv").write_text(lines, encoding="utf-8")
    (folder / "audio").symlink_to(SPEECH / "audio")
    return folder / "utts.tsv"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("librispeech")
    made = run("mini.py", write_cuts(folder), folder / "tree")
    assert made.returncode == 0, made.stderr
    return folder / "tree"


@pytest.mark.slow
def test_every_stage_on_a_small_tree(tree: Path, tmp_path: Path) -> None:
    done = run("run.py", "--setting", "mini", "--corpus-dir", tree, "--exp", tmp_path / "exp", "--workers", 1)
    assert done.returncode == 0, done.stderr
    work = tmp_path / "exp/mini/ctc/seed-1"
    assert (work / "report.html").exists()
    for system in ("teacher", "labeled", "distilled", "upper"):
        result = json.loads((work / "results" / system / "result.json").read_text())
        words = {
            name: sum(Errors(*counts).reference for counts in by_speaker.values())
            for name, by_speaker in result["tests"].items()
        }
        assert words == {name: _words(tree, f"test-{name}") for name in ("clean", "other")}
    # Nobody is in two sets, and the untranscribed set has no text.
    data = tmp_path / "exp/mini/data"
    rows = {name: _rows(data / f"{name}.jsonl.gz") for name in ("labeled", "unlabeled", "dev", "test_clean")}
    speakers = [{row["supervisions"][0]["speaker"] for row in own} for own in rows.values()]
    assert len(set.union(*speakers)) == sum(map(len, speakers))
    assert not any(row["supervisions"][0].get("text") for row in rows["unlabeled"])


def _words(tree: Path, part: str) -> int:
    return sum(
        len(line.split()) - 1 for path in (tree / part).rglob("*.trans.txt") for line in path.read_text().splitlines()
    )


def _rows(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_a_tree_that_is_not_whole(tree: Path, tmp_path: Path) -> None:
    broken = tmp_path / "tree"
    shutil.copytree(tree, broken)
    lost = sorted((broken / "train-other-500").rglob("*.flac"))[0]
    lost.unlink()
    done = run("run.py", "--setting", "mini", "--corpus-dir", broken, "--exp", tmp_path / "exp")
    assert done.returncode == 1
    assert f"utterances of train-other-500 have a transcript and no audio, the first is '{lost.stem}'" in done.stderr
    shutil.rmtree(broken / "train-other-500")
    done = run("run.py", "--setting", "mini", "--corpus-dir", broken, "--exp", tmp_path / "exp")
    assert done.returncode == 1
    assert "train-other-500' has no transcripts (*.trans.txt)" in done.stderr.splitlines()[-1]
    again = run("mini.py", tree.parent / "utts.tsv", broken)
    assert again.returncode == 1 and "is not empty" in again.stderr
