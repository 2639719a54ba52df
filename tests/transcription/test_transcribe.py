"""Recordings of any length: their utterances do not depend on what else is in the recording."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asrkd.acoustic import AcousticModel, TrainedModel
from asrkd.cli import cli
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.decoding.search import Search
from asrkd.errors import AsrkdError
from asrkd.models import BLSTMTeacher
from asrkd.transcription.recordings import recordings
from asrkd.transcription.transcribe import Transcriber, transcript

INVENTORY = Inventory(("<blk>", "a", "b", "c"), "ctc")
RATE = 16000
FRAME = 512  # of the detector


def network(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Which third of the mel bins is the loudest; blank where nothing is."""
    bands = torch.stack([part.mean(-1) for part in features[..., :64].split([12, 20, 32], dim=-1)], dim=-1)
    blank = torch.full((*bands.shape[:2], 1), 4.0)
    return torch.cat([blank, bands], dim=-1), lengths


MODEL = AcousticModel(network, FrontEnd(), INVENTORY, 1, "bands", "f", own=True)


def spoken(rng: np.random.Generator, sounds: int) -> np.ndarray:
    """Tones in noise, one after the other."""
    parts = []
    for _ in range(sounds):
        time = np.arange(FRAME * int(rng.integers(6, 16))) / RATE
        tone = np.sin(2 * np.pi * rng.choice([250, 1100, 3500]) * time)
        parts.append(0.2 * tone + 0.002 * rng.normal(size=len(time)))
    return np.concatenate(parts).astype(np.float32)


def text_of(path: Path) -> str:
    (cut,) = recordings([str(path)])
    return transcript(Transcriber(MODEL, Search(None, MODEL)).utterances(cut))


def write(path: Path, samples: np.ndarray) -> Path:
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return path


@pytest.mark.slow
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(0, 12), min_size=2, max_size=5))
def test_a_recording_has_the_text_of_its_pieces_where_they_end_in_silence(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int]
) -> None:
    folder, rng = tmp_path_factory.mktemp("pieces"), np.random.default_rng(seed)
    silences = [np.zeros(FRAME * int(rng.integers(32, 90)), np.float32) for _ in range(2 * len(sizes))]
    pieces = [
        np.concatenate([silences.pop(), *([spoken(rng, size)] if size else []), silences.pop()]) for size in sizes
    ]
    texts = [text_of(write(folder / f"{n}.wav", piece)) for n, piece in enumerate(pieces)]
    assert [bool(text) for text in texts] == [size > 0 for size in sizes]
    assert text_of(write(folder / "whole.wav", np.concatenate(pieces))) == " ".join(filter(None, texts))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transcribe") / "run"
    torch.manual_seed(0)
    args = {"hidden_dim": 8, "num_layers": 1}
    model = BLSTMTeacher(192, len(INVENTORY), **args)
    model.output.weight.data *= 100
    model.output.bias.data[0] -= 100
    weights = model.eval().state_dict()
    TrainedModel(weights, "asrkd.models:BLSTMTeacher", args, FrontEnd(), INVENTORY, 1).save(folder / "final.pt")
    return folder


def invoke(*arguments: object) -> Any:
    result = CliRunner().invoke(cli, ["transcribe", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, (AsrkdError, SystemExit)):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(3)
    gap = np.zeros(2 * RATE, np.float32)
    write(folder / "one.wav", np.concatenate([gap, spoken(rng, 9), gap, spoken(rng, 14)]))
    (folder / "below").mkdir()
    write(folder / "below/two.flac", spoken(rng, 5))
    return folder


def test_every_format_says_the_same(run: Path, audio: Path, tmp_path: Path) -> None:
    said = {form: invoke(run, audio, "--format", form).stdout for form in ("text", "jsonl", "ctm")}
    texts = dict(line.split(" ", 1) for line in said["text"].splitlines())
    assert sorted(texts) == ["below/two", "one"]
    found = [json.loads(line) for line in said["jsonl"].splitlines()]
    assert sum(one["id"] == "one" for one in found) == 2
    assert all(texts.values())
    for name, text in texts.items():
        own = [one for one in found if one["id"] == name]
        words = [word for one in own for word in one["words"]]
        assert " ".join(one["text"] for one in own) == " ".join(word["word"] for word in words) == text
        assert all(0 <= word["confidence"] <= 1 for word in words)
        assert all(one["start"] <= w["start"] < w["end"] <= one["end"] + 0.1 for one in own for w in one["words"])
        lines = [line.split(" ") for line in said["ctm"].splitlines() if line.startswith(f"{name} ")]
        assert [line[4] for line in lines] == text.split(" ")
        assert [float(line[2]) for line in lines] == [word["start"] for word in words]
    out = tmp_path / "one.srt"
    assert invoke(run, audio / "one.wav", "--format", "srt", "--out", out).exit_code == 0
    blocks = out.read_text(encoding="utf-8").strip().split("\n\n")
    assert " ".join(" ".join(block.split("\n")[2:]) for block in blocks) == texts["one"]
    assert [block.split("\n")[0] for block in blocks] == [str(n + 1) for n in range(len(blocks))]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3}", b.split("\n")[1]) for b in blocks)


def test_the_decoder_that_was_taken_is_told(run: Path, audio: Path) -> None:
    assert "decoder greedy: CTC units without a lexicon" in invoke(run, audio).stderr


def test_a_rate_below_the_models_is_told(run: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "narrow.wav", spoken(np.random.default_rng(0), 4), 8000)
    assert "sampling rate of 8000 Hz, below the 16000 Hz of the model's front end" in invoke(run, tmp_path).stderr


def test_one_recording_that_cannot_be_read_does_not_stop_the_others(run: Path, audio: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.flac"
    broken.write_bytes(b"fLaC" + bytes(100))
    result = invoke(run, broken, audio)
    assert result.exit_code == 1
    assert re.search("1 recordings could not be transcribed, the others were; .*'broken'", str(result.exception))
    assert sorted(line.split(" ")[0] for line in result.stdout.splitlines()) == ["below/two", "one"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/none.wav"], "'/none.wav' does not exist"),
        (["{audio}", "{audio}"], "so its words could not be distinguished"),
        (["{audio}", "--format", "srt"], "srt is for one recording"),
        (["{empty}"], "audio"),
        (["{audio}", "--grammar", "{text}"], "no line .data., so it is not an ARPA file"),
        (["{audio}", "--n-best", 3], "n_best is given, but greedy"),
        (["{text}"], "text.txt"),
    ],
)
def test_what_cannot_be_transcribed_is_said(
    run: Path, audio: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello\n")
    places = {"audio": audio, "empty": tmp_path / "empty", "text": tmp_path / "text.txt"}
    result = invoke(run, *(str(argument).format(**places) for argument in arguments))
    assert result.exit_code == 1 and re.search(message, str(result.exception))
