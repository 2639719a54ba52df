"""The preparation of recipes/common_voice: who is labeled, and what is wrong with a folder."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from asrkd.corpus.cuts import iterate_json
from asrkd.errors import CorpusError

RECIPE = Path(__file__).parents[2] / "recipes/common_voice"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("common_voice_prepare", RECIPE / "prepare.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A language with 6 speakers of 2 clips in train.tsv, one clip of a second in each other table."""
    (tmp_path / "clips").mkdir()
    number = 0
    for table, speakers in {"train": 6, "dev": 1, "test": 1, "other": 1}.items():
        lines = ["client_id\tpath\tsentence\tlocale"]
        for speaker in range(speakers):
            for clip in range(2 if table == "train" else 1):
                number += 1
                name = f"common_voice_xx_{number}.mp3"
                samples = np.random.default_rng(number).normal(0, 0.1, 16000).astype(np.float32)
                soundfile.write(tmp_path / "clips" / name, samples, 16000)
                lines.append(f"{table}-{speaker}\t{name}\tJa, Wort {clip}!\txx")
        (tmp_path / f"{table}.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


def rows(path: Path) -> list[dict]:
    return list(iterate_json(str(path)))


def test_speakers_are_labeled_whole(recipe: ModuleType, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    recipe.prepare(5.5 / 3600, folder, data)
    sets = {name: rows(data / f"{name}.jsonl.gz") for name in ("labeled", "unlabeled", "transcribed", "dev", "test")}
    # MP3 pads a clip to a little over one second.
    assert {name: len(own) for name, own in sets.items()} == {
        "labeled": 6,
        "unlabeled": 7,
        "transcribed": 12,
        "dev": 1,
        "test": 1,
    }
    speakers = {name: {row["supervisions"][0]["speaker"] for row in own} for name, own in sets.items()}
    assert not speakers["labeled"] & speakers["unlabeled"]
    assert "other-0" in speakers["unlabeled"] - speakers["transcribed"]
    assert not any(row["supervisions"][0].get("text") for row in sets["unlabeled"])
    tokens = [line.split()[0] for line in (data / "characters/tokens.txt").read_text().splitlines()]
    assert {*"jawort01"} <= {token.strip("▁") for token in tokens} and "," not in tokens and "J" not in tokens


def test_what_is_wrong_with_a_folder(
    recipe: ModuleType, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CorpusError, match="--corpus-dir must be the folder of a language of Common Voice"):
        recipe.prepare(1, tmp_path / "clips", tmp_path / "data")
    with pytest.raises(CorpusError, match=r"train.tsv has 0.00\d h of 6 speakers, from which 1 h cannot be labeled"):
        recipe.prepare(1, folder, tmp_path / "data")
    (folder / "clips/common_voice_xx_1.mp3").unlink()
    with caplog.at_level(logging.WARNING):
        recipe.prepare(5.5 / 3600, folder, tmp_path / "data")
    assert "1 of 12 clips of train.tsv are left out; the first: " in caplog.text
