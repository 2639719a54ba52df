"""Pages about stores, trainings and scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import make_teacher

from asrkd.cli import cli
from asrkd.corpus.cuts import iterate_json
from asrkd.errors import ConfigError
from asrkd.evaluation.files import write_hypotheses, write_speakers
from asrkd.evaluation.wer import Scored, score
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.report.errors import error_sections
from asrkd.report.store import write_store_page
from asrkd.store import Store


def report(*arguments: object) -> None:
    result = CliRunner().invoke(cli, ["report", *map(str, arguments)])
    if isinstance(result.exception, Exception):
        raise result.exception
    assert result.exit_code == 0, result.output


def cells(page: str) -> dict[str, Sequence[str]]:
    """Rows of all tables, by their first cell."""
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return {row[0]: row[1:] for row in (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows)}


def test_the_page_of_soft_targets(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    plan(
        str(corpus / "unlabeled.jsonl.gz"),
        str(root),
        teacher=make_teacher(tmp_path / "t.pt"),
        codec="topk:5",
        embed="audio",
        unit_hours=0.005,
    )
    run(Local(Store.open(str(root))))
    report(root, tmp_path / "page.html", "--utterances", 3)
    page = (tmp_path / "page.html").read_text()
    rows = list(Store.open(str(root)).rows(["id", "kept_mass"]))
    assert cells(page)["utterances, finished of planned"] == ["20 of 20"]
    assert page.count("<audio") == 3 and page.count("Posteriors of stored soft targets") == 3
    # Evenly from the store: the first and the last among them.
    shown = [f"<h2>Utterance {row['id']}</h2>" in page for row in rows]
    assert shown.count(True) == 3 and shown[0] and shown[-1]
    kept = f"The codec topk:5 kept {100 * rows[0]['kept_mass']:.2f} % of the probability in 5.0 of 40 classes a frame (5 to 5)"
    assert kept in page
    columns = [name for name in cells(page) if name.startswith("target_")]
    assert columns and all(float(cells(page)[name][0]) >= 0 for name in columns)


def test_the_page_of_transcripts(corpus: Path, tmp_path: Path) -> None:
    path = write_store_page(tmp_path / "page.html", Store.open(str(corpus / "stores/labeled")), utterances=2)
    page = path.read_text()
    assert "Transcripts." in page and page.count("<audio") == 2 and "Posteriors" not in page


def scores() -> list[Scored]:
    references = {"u1": "low high", "u2": "up low", "u3": "high"}
    hypotheses = {"u1": "low up", "u2": "low", "u3": "high low"}
    return score(references, hypotheses, {"u1": "anna", "u2": "anna", "u3": "bo"})


def test_errors_by_word_and_speaker() -> None:
    words, speakers, worst = error_sections(scores(), utterances=2)
    assert words.tables[0].rows == [["high", "2", "1", "50", "up 1"], ["up", "1", "1", "100", "* 1"]]
    assert words.tables[1].rows == [["low", "1"]]
    assert "Word error rate 60.0 %" in words.text and "1 substitutions, 1 deletions, 1 insertions" in words.text
    assert speakers.tables[0].rows == [["bo", "1", "1", "100.0"], ["anna", "2", "4", "50.0"]]
    assert [clip.caption.splitlines()[1:] for clip in worst.clips] == [
        ["low [high]", "low [up]"],
        ["[up] low", "[*] low"],
    ]


def test_the_page_of_scores_with_audio(corpus: Path, tmp_path: Path) -> None:
    cuts = corpus / "labeled.jsonl.gz"
    texts = {cut["id"]: cut["supervisions"][0]["text"] for cut in iterate_json(str(cuts))}
    write_hypotheses(tmp_path / "ref-test.txt", texts)
    first = next(iter(texts))
    write_hypotheses(tmp_path / "hyp-test.txt", texts | {first: texts[first] + " more"})
    write_speakers(tmp_path / "utt2spk-test.txt", dict.fromkeys(texts, "anna"))
    report(tmp_path, tmp_path / "page.html", "--cuts", cuts)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<audio") == 1 and "[more]" in page and cells(page)["more"] == ["1"]


def test_the_page_of_a_training(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 7\nmodel: {args: {hidden_dim: 8}}\n")
    (folder / "metrics.jsonl").write_text(
        '{"step": 1, "soft": 2.0, "learning_rate": 0.1}\n{"step": 2, "soft": 1.5, "dev": 3.0}\n'
    )
    report(folder, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert cells(page)["model.args.hidden_dim"] == ["8"] and "Not finished: there is no final.pt yet." in page
    assert '"x": [1.0, 2.0], "y": [2.0, 1.5]' in page


def test_what_cannot_be_reported_on(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a store .manifest.json., nor the folder of a training"):
        report(tmp_path, tmp_path / "page.html")
    with pytest.raises(ConfigError, match="--cuts is .* is not a folder of scores"):
        report(corpus / "stores/labeled", tmp_path / "page.html", "--cuts", "x")
    (tmp_path / "hyp-test.txt").write_text("a b\n")
    with pytest.raises(ConfigError, match="hyp-test.txt' has no ref-test.txt next to it"):
        report(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
