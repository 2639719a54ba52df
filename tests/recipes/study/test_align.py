from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import make_cuts

from asrkd import config as configs
from asrkd.errors import ConfigError
from asrkd.store import Store
from asrkd_recipes.study import align as rounds
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.run import Study


@pytest.fixture(scope="module")
def data(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rounds")
    for seed, (name, count) in enumerate({"labeled": 4, "transcribed": 4, "dev": 2}.items()):
        make_cuts(folder, name, count, seed=seed)
    shutil.copy(corpus / "lexicon.txt", folder)
    return folder


def study(data: Path, work: Path, **changes: Any) -> Study:
    system = {
        "model": {"factory": "asrkd.models:LSTMStudent", "args": {"hidden_dim": 8, "num_layers": 1}},
        "front_end": {"mean_norm": "causal"},
        "batch": {"max_frames": 600, "max_utterances": 4},
        "steps": 3,
    }
    values = {"work": str(work), "data": str(data), "topology": "hmm", "tests": {"dev": "dev"}, "teacher": system}
    return Study(configs.from_dict(StudyConfig, values | {"decoding": {"insertion_penalties": [0.0]}} | changes))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rates", "taken", "said"),
    [
        ([0.5, 0.4, 0.3], 2, "each of the 2 rounds was better"),
        ([0.5, 0.4, 0.4], 1, "round 2 was not better on dev (40.00% WER, 40.00% before)"),
        ([0.5, 0.6], 0, "round 1 was not better on dev (60.00% WER, 50.00% before)"),
    ],
)
def test_rounds_are_kept_as_long_as_dev_gains(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: list[float], taken: int, said: str
) -> None:
    real, measured = rounds.dev_decoding, []

    def scripted(config: StudyConfig, spec: str) -> Any:
        measured.append(yaml.safe_load((Path(spec.removeprefix("checkpoint:")) / "config.yaml").read_text()))
        return dataclasses.replace(real(config, spec), rate=rates[len(measured) - 1])

    monkeypatch.setattr(rounds, "dev_decoding", scripted)
    own = study(data, tmp_path, align_rounds=2)
    own.run(stop_stage="align")
    found = json.loads((tmp_path / "stores/align-rounds.json").read_text())
    assert found["taken"] == taken and said in found["why"] and found["dev_wer"] == rates
    # Each model learned from, and was watched on, the labels of its round.
    ends = ["aligned", "aligned-1", "aligned-2"]
    assert [one["sources"]["labeled"]["store"].rsplit("/labeled-")[1] for one in measured] == ends[: len(rates)]
    assert [one["dev"].rsplit("/dev-")[1] for one in measured] == ends[: len(rates)]
    for name in ("labeled", "dev", "transcribed"):
        assert own.stores.to_train_from(name) == str(tmp_path / "stores" / f"{name}-{ends[taken]}")
        assert all(row["alignment"] is not None for row in Store.open(own.stores.to_train_from(name)).rows())
        assert (tmp_path / "stores" / f"{name}-{ends[taken]}.html").exists()
    # Everything is there: a second run measures and writes nothing.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    study(data, tmp_path, align_rounds=2).run(stop_stage="align")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_rounds_that_cannot_be_are_refused(data: Path, tmp_path: Path) -> None:
    for changes, said in (
        ({"align_rounds": -1}, "align_rounds: must be at least 0, not -1"),
        ({"align_rounds": 1, "topology": "ctc"}, "align_rounds: is 1, but topology 'ctc'"),
        ({"decoding": {"leave_early": []}}, "decoding.leave_early: must have at least one value"),
        ({"decoding": {"insertion_penalties": []}}, "decoding.insertion_penalties: must have at least one value"),
    ):
        with pytest.raises(ConfigError, match=said):
            study(data, tmp_path / "work", **changes).run(stop_stage="align")
    assert not (tmp_path / "work").exists()
