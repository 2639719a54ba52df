"""The README's eight commands, as someone runs them who has read nothing else: from a folder of recordings and a table of transcripts to a folder that sherpa-onnx runs."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
import transformers
from click.testing import CliRunner

from asrkd.cli import cli
from asrkd.store import Store

ROOT = Path(__file__).parents[1]
# Corpora as files: utts.tsv (path, speaker, text, and in which `part` a row is) and audio. picovoice-coffee, in files as `recipes/coffee` takes it, is tried where its folder is named.
SPEECH = ROOT / "tests/data/speech"
COFFEE = os.environ.get("ASRKD_PICOVOICE_COFFEE", "")
COUNTS = {"labelled": 16, "unlabelled": 16, "test": 8}
NAMED_TEACHER = "transformers:facebook/wav2vec2-base-960h"


def save_teacher(folder: Path) -> None:
    """A model of the named teacher's family and vocabulary, small and with random weights."""
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    (folder / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate(letters)}))
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), word_delimiter_token="|").save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=[16] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
    )
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)


def user_folder(corpus: Path, folder: Path) -> int:
    """What a user has, in `folder`: audio in `recordings` and `test`, `transcripts.csv` and `test.csv`. Returns the number of utterances to test on."""
    with (corpus / "utts.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    parts = {"labelled": rows[:12], "unlabelled": rows[16:], "test": rows[12:16]}
    if "part" in rows[0]:  # enough of it for minutes
        parts = {part: [row for row in rows if row["part"] == part][:count] for part, count in COUNTS.items()}
    tables = {"labelled": "transcripts.csv", "test": "test.csv"}
    for part, own in parts.items():
        audio = folder / ("test" if part == "test" else "recordings")
        audio.mkdir(exist_ok=True)
        for row in own:
            shutil.copy(corpus / row["path"], audio)
        if part in tables:
            with (folder / tables[part]).open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["audio", "text", "speaker"])
                table.writerows([f"{audio.name}/{Path(row['path']).name}", row["text"], row["speaker"]] for row in own)
    return len(parts["test"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "corpus",
    [
        pytest.param(SPEECH, id="read-sentences"),
        pytest.param(
            Path(COFFEE),
            id="picovoice-coffee",
            marks=pytest.mark.skipif(not COFFEE, reason="ASRKD_PICOVOICE_COFFEE names no folder"),
        ),
    ],
)
def test_the_walk_of_the_readme(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## From a folder of recordings to sherpa-onnx")[1].split("\n## ")[0]
    commands = re.findall(r"^asrkd .*$", section, re.M)
    config = re.findall(r"^```yaml\n(.*?)^```$", section, re.S | re.M)[0]
    assert len(commands) == 8

    num_test = user_folder(corpus, tmp_path)
    (tmp_path / "student.yaml").write_text(re.sub(r"steps: \d+", "steps: 5", config))
    (tmp_path / "teacher").mkdir()
    save_teacher(tmp_path / "teacher")

    monkeypatch.chdir(tmp_path)
    outputs = {}
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        words = ["transformers:teacher" if word == NAMED_TEACHER else word for word in words]
        run = CliRunner().invoke(cli, words)
        assert run.exit_code == 0, f"{command}\n{run.output}\n{run.exception}"
        outputs[words[0]] = run.output

    soft, labeled = Store.open("exp/soft"), Store.open("exp/labeled")
    assert soft.identity.teacher == "transformers:teacher" and not labeled.identity.teacher
    assert "WER" in outputs["decode"] and f"{num_test} utterances" in outputs["decode"]
    # The command lets sherpa-onnx decode the test set and compares its words with asrkd's.
    compared = re.findall(
        r"^(\S+) in sherpa-onnx: \d+ of (\d+) tokens differ .* of (\d+) utterances", outputs["export"], re.M
    )
    assert compared and all(int(tokens) > 0 and int(number) == min(num_test, 20) for _, tokens, number in compared)
    run_the_exported_calls(tmp_path, sorted(Path("test").iterdir())[0], monkeypatch, capsys)


def run_the_exported_calls(
    folder: Path, recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the exported README says to run in Python, in the exported folder."""
    samples, rate = soundfile.read(recording)
    soundfile.write(folder / "exp/sherpa/audio.wav", samples, rate)
    monkeypatch.chdir(folder / "exp/sherpa")
    calls = re.findall(r"^```python\n(.*?)^```$", Path("README.md").read_text(encoding="utf-8"), re.S | re.M)
    capsys.readouterr()
    exec("\n".join(calls), {})
    assert (
        len(capsys.readouterr().out.splitlines()) == 2
    )  # the text of the streaming graph, and that of the one for whole files
