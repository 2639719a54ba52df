"""The walk of the README, as someone who has nothing else makes it: from a folder of recordings and a table of transcripts to a folder for sherpa-onnx."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from click.testing import CliRunner

from asrkd.cli import cli
from asrkd.store import Store

ROOT = Path(__file__).parents[1]
SPEECH = ROOT / "tests/data/speech"
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


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["audio", "text", "speaker"])
        table.writerows([f"recordings/{Path(row['path']).name}", row["text"], row["speaker"]] for row in rows)


@pytest.mark.slow
def test_the_walk_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## From a folder of recordings to sherpa-onnx")[1].split("\n## ")[0]
    commands = re.findall(r"^asrkd .*$", section, re.M)
    config = re.findall(r"^```yaml\n(.*?)^```$", section, re.S | re.M)[0]
    assert len(commands) == 8

    with (SPEECH / "utts.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    shutil.copytree(SPEECH / "audio", tmp_path / "recordings")
    write_table(tmp_path / "transcripts.csv", rows[:12])
    write_table(tmp_path / "test.csv", rows[12:16])
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
    assert "WER" in outputs["decode"] and "4 utterances" in outputs["decode"]
    # The command lets sherpa-onnx decode the test set and compares its words with asrkd's.
    compared = re.findall(
        r"^(\S+) in sherpa-onnx: \d+ of (\d+) tokens differ .* of (\d+) utterances", outputs["export"], re.M
    )
    assert compared and all(int(tokens) > 0 and utterances == "4" for _, tokens, utterances in compared)
    assert {"tokens.txt", "model.onnx", "offline.onnx", "README.md"} <= {
        path.name for path in Path("exp/sherpa").iterdir()
    }
