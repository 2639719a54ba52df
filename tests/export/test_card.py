"""Model cards of training runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from export.students import student

from asrkd.acoustic import load_model
from asrkd.cli import cli
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.evaluation.files import write_scores
from asrkd.evaluation.wer import score
from asrkd.export.card import model_card
from asrkd.store.reader import Store


@pytest.fixture
def run(corpus: Path, tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    units = Inventory(("<blk>", "a", "b"), "ctc", 1)
    student("TDNNStudent", FrontEnd.from_dict({"preset": "sherpa"}), units, tmp_path / "run/final.pt")
    config = {
        "run": "run",
        "inventory": {"lexicon": "lexicon.txt", "topology": "ctc"},
        "sources": {
            "heard": {"store": str(corpus / "stores/labeled"), "kind": "labeled"},
            "gone": {"store": "nowhere", "kind": "soft"},
        },
        "schedule": [{"steps": 1200, "mixture": {"heard": 1}}, {"steps": 30, "mixture": {"gone": 1}}],
    }
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "run"


def card(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["export", "card", *map(str, arguments)])
    return result.exit_code, result.output or str(result.exception)


def test_a_card_has_error_rates_data_licence_and_limits(run: Path, corpus: Path, tmp_path: Path) -> None:
    said, found = {"u1": "a b a b", "u2": "b a"}, {"u1": "a b a a", "u2": "b a"}
    write_scores(tmp_path, "clean", score(said, found, {"u1": "anna", "u2": "ben"}))
    code, text = card(run, "--name", "tones", "--license", "mit", "--language", "en", "--scores", tmp_path)
    assert code == 0
    front = yaml.safe_load(text.split("---\n")[1])
    assert (front["license"], front["language"], front["model_name"]) == ("mit", ["en"], "tones")
    assert "| clean | 16.67 | [0.00, 25.00] | 2 | 2 | 6 |" in text
    count = sum(1 for _ in Store.open(str(corpus / "stores/labeled")).rows())
    assert f"- `heard` (labeled): {count:,} utterances, " in text and "transcripts" in text
    assert "- `gone` (soft): its store is not here any more." in text
    assert "1,200 then 30" in text and "it streams, 120 ms behind the audio" in text
    assert "- Model: `mit`." in text and "What a teacher gave it has the teacher's errors." in text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "sherpa", "web"])
def test_exported_folders_have_the_card(kind: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip({"onnx": "onnx", "sherpa": "sherpa_onnx", "web": "onnx"}[kind])
    monkeypatch.setattr("asrkd.export.web._copy_runtime", lambda *_: None)
    write_scores(tmp_path, "clean", score({"u1": "a b"}, {"u1": "a b"}, {"u1": "anna"}))
    options = ["--name", "tones", "--license", "mit", "--scores", str(tmp_path)]
    printed = card(run, *options)[1]
    arguments = ["export", kind, f"checkpoint:{run}/final.pt", str(tmp_path / "out"), *options]
    further = {"onnx": ["--type", "float32"], "sherpa": [], "web": ["--runtime", str(tmp_path / "runtime.tgz")]}
    result = CliRunner().invoke(cli, [*arguments, *further[kind]])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out/README.md").read_text()
    assert text.startswith(printed)
    own = {"onnx": "`stream.onnx`: 0.", "sherpa": "--zipformer2-ctc-model=model.onnx", "web": "python -m http.server"}
    assert own[kind] in text


def test_a_card_says_what_is_not_known(run: Path, tmp_path: Path) -> None:
    (run / "config.yaml").write_text("steps: 3")
    code, text = card(run, "--name", "tones")
    assert code == 0 and "Not known: the config.yaml of its run cannot be read" in text
    (run / "config.yaml").unlink()
    text = model_card(load_model(f"checkpoint:{run}"))
    assert "# run\n" in text and "Not known: the folder of its training run was not at hand." in text


def test_what_is_not_a_run_or_not_scores_is_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, told in (
        ((tmp_path / "empty", "--name", "x"), "is not the folder of a training run"),
        ((run, "--name", "x", "--scores", tmp_path / "empty"), "holds no wer-summary-NAME.txt"),
    ):
        code, text = card(*arguments)
        assert code == 1 and told in text
