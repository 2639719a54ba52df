"""`asrkd decode` and `asrkd score` agree, and what cannot be scored is said before the model runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from lhotse import CutSet
from training_helpers import settings

from asrkd.cli import cli
from asrkd.errors import AsrkdError, CorpusError
from asrkd.training.trainer import Trainer


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decode") / "run"
    Trainer(settings(corpus, folder, schedule=[{"steps": 2, "mixture": {"labeled": 1}}])).train()
    return folder


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if isinstance(result.exception, AsrkdError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def manifest(corpus: Path, path: Path, change: Callable[[int, dict[str, Any]], None], count: int = 4) -> Path:
    cuts = [cut.to_dict() for cut in CutSet.from_file(corpus / "labeled.jsonl.gz")][:count]
    for number, cut in enumerate(cuts):
        change(number, cut)
    path.write_text("".join(json.dumps(cut) + "\n" for cut in cuts), encoding="utf-8")
    return path


def test_score_of_the_files_that_decode_wrote_is_what_decode_said(corpus: Path, run: Path, tmp_path: Path) -> None:
    def odd(number: int, cut: dict[str, Any]) -> None:
        cut["id"] = f"u\u2028*:é{number}"
        cut["supervisions"][0] |= {
            "speaker": "an  na\n" if number % 2 else None,
            "text": ["lo\u0301w *", "low\thigh\n", "(up)", ""][number],
        }

    cuts = manifest(corpus, tmp_path / "odd.jsonl", odd)
    said = invoke("decode", run, cuts, tmp_path / "out", "--lexicon", corpus / "lexicon.txt")
    summary = said[: said.index("RTFx")]
    files = [tmp_path / "out/hyp-test.txt", tmp_path / "out/ref-test.txt"]
    assert " 5 words, 4 utterances\n" in summary and "\n  an na\t" in summary and "over 3 speakers" in summary
    assert invoke("score", *files) == summary == invoke("score", *files, "--cuts", cuts)
    assert (tmp_path / "out/wer-summary-test.txt").read_text(encoding="utf-8") == summary
    fewer = manifest(corpus, tmp_path / "fewer.jsonl", odd, count=3)
    with pytest.raises(CorpusError, match="names no speaker for 1 of 4 utterances"):
        invoke("score", *files, "--cuts", fewer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda number, cut: cut.update(id="same" if number != 2 else "other"), "'same' is in .* more than once"),
        (lambda number, cut: cut.update(id=f"my utt {number}"), "'my utt 0' .* has white space in it"),
        (lambda number, cut: cut.update(id=f"u\t{number}"), r"'u\\t0' .* has white space in it"),
        (lambda number, cut: cut["supervisions"][0].update(text=" \t"), "hold no words"),
        (lambda number, cut: cut["supervisions"].clear(), "has no transcript"),
    ],
)
def test_what_cannot_be_scored_is_said_before_audio_is_read(
    corpus: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None], message: str
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("audio was read")

    monkeypatch.setattr("asrkd.decoding.run.read_audio", read)
    cuts = manifest(corpus, tmp_path / "cuts.jsonl", change)
    with pytest.raises(CorpusError, match=message):
        invoke("decode", run, cuts, tmp_path / "out", "--lexicon", corpus / "lexicon.txt")
    assert not (tmp_path / "out").exists()
