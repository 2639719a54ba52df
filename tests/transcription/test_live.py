"""Words while they are spoken: the final ones are those of the whole recording, from a file, a pipe or a microphone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from click.testing import CliRunner
from export.students import student
from helpers import make_teacher
from hypothesis import given
from hypothesis import strategies as st

from asrkd.acoustic import load_model
from asrkd.cli import cli
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.decoding.live import LiveHypothesis
from asrkd.decoding.search import Search
from asrkd.errors import ConfigError, CorpusError, DependencyError
from asrkd.transcription.live import of_microphone, of_pcm, of_recording, recognize
from asrkd.transcription.recordings import recordings

RATE = 16000
UNITS = Inventory(("<blk>", "a", "b", "c"), "ctc")


class Dribble(io.RawIOBase):
    """A pipe: of what is asked for, it gives as much as its next size says."""

    def __init__(self, content: bytes, sizes: list[int]) -> None:
        self.content, self.sizes = content, sizes

    def read(self, size: int = -1) -> bytes:
        part = self.content[: min(size, self.sizes.pop() if self.sizes else size)]
        self.content = self.content[len(part) :]
        return part


@given(
    st.lists(st.integers(-32768, 32767), max_size=500),
    st.lists(st.integers(1, 99), max_size=20),
    st.sampled_from([8000, RATE, 44100]),
)
def test_raw_audio_may_be_read_anywhere(values: list[int], sizes: list[int], native: int) -> None:
    samples = np.array(values, dtype="<i2")
    found = list(of_pcm(Dribble(samples.tobytes(), sizes), native, RATE, 0.01))
    whole = torch.from_numpy(samples.astype(np.float32) / 32768)
    if len(samples) and native != RATE:
        whole = torchaudio.functional.resample(whole, native, RATE)
    torch.testing.assert_close(torch.cat([torch.zeros(0), *found]), whole, rtol=0, atol=1e-5)


def test_raw_audio_that_ends_within_a_sample_is_an_error() -> None:
    with pytest.raises(CorpusError, match="ends within a sample"):
        list(of_pcm(io.BytesIO(b"abc"), RATE, RATE, 0.1))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.flac"
    rng = np.random.default_rng(0)
    loudness = np.repeat(rng.uniform(0.001, 0.3, 30), RATE // 10)
    soundfile.write(path, loudness * rng.standard_normal(len(loudness)).clip(-3, 3), RATE)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return student("LSTMStudent", FrontEnd(mean_norm="causal"), UNITS, tmp_path_factory.mktemp("run") / "student.pt")


def test_chunks_of_a_recording_are_its_samples(speech: Path) -> None:
    (cut,) = recordings([str(speech)])
    chunks = list(of_recording(cut, RATE, 700))
    np.testing.assert_allclose(torch.cat(chunks).numpy(), soundfile.read(speech, dtype="float32")[0], atol=1e-6)
    assert {len(chunk) for chunk in chunks[:-1]} == {700}


def greedy(spec: str, path: Path) -> str:
    model = load_model(spec)
    features = model.front_end(torch.from_numpy(soundfile.read(path, dtype="float32")[0]))[None]
    scores, _ = model.scores(features, torch.tensor([features.shape[1]]))
    return Search(None, model).texts([("a", scores[0].numpy())])["a"]


@pytest.mark.parametrize("chunk", [0.01, 0.1, 1.7])
def test_the_final_words_are_those_of_the_whole(speech: Path, run: str, chunk: float) -> None:
    whole = greedy(run, speech)
    assert len(whole.split()) > 3
    found = CliRunner().invoke(cli, ["live", run, str(speech), "--chunk", str(chunk), "--end-silence", "99"])
    assert found.exit_code == 0, found.output
    assert found.stdout == f"{whole}\n" and "RTFx" in found.stderr


def test_words_as_they_come_from_a_pipe(speech: Path, run: str) -> None:
    samples, _ = soundfile.read(speech, dtype="int16")
    command = [sys.executable, "-m", "asrkd", "live", run, "-", "--format", "jsonl", "--end-silence", "99"]
    process = subprocess.run(
        command, input=samples.tobytes(), capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert process.returncode == 0, process.stderr.decode()
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    assert lines[-1]["ended"] and lines[-1]["text"] == greedy(run, speech) and lines[-1]["end"] == 3.0
    assert len({line["text"] for line in lines}) > 1 and not any(line["ended"] for line in lines[:-1])
    assert all(line["lag"] >= 0 for line in lines)


class Recognizer:
    """Ends an utterance at every third chunk."""

    def __init__(self, model: object) -> None:
        self.model, self.count = model, 0

    def accept(self, samples: torch.Tensor) -> LiveHypothesis:
        self.count += 1
        return LiveHypothesis(("w",) * self.count, self.count % 3 == 0, 0.0)

    def finish(self) -> LiveHypothesis:
        return LiveHypothesis((), True, 0.0)


def test_times_are_those_of_the_audio(run: str) -> None:
    chunks: Iterator[torch.Tensor] = iter([torch.zeros(1600)] * 5)
    found = list(recognize(Recognizer(load_model(run)), chunks))  # type: ignore[arg-type]
    assert [(round(one.start, 3), round(one.end, 3), one.ended) for one in found] == [
        (0.0, 0.1, False), (0.0, 0.2, False), (0.0, 0.3, True), (0.3, 0.4, False), (0.3, 0.5, False), (0.3, 0.5, True),
    ]  # fmt: skip
    assert all(0 <= one.lag < 0.1 for one in found)


class Device:
    """A microphone of sounddevice's form, which calls back with three blocks."""

    def __init__(self, callback, blocksize: int, **settings: object) -> None:  # noqa: ANN001
        if settings["device"] == "broken":
            raise ValueError("No input device matching 'broken'")
        self.callback, self.blocksize = callback, blocksize

    def __enter__(self) -> None:
        for number in range(1, 4):
            self.callback(np.full(self.blocksize, 8192 * number - 8192, np.int16), self.blocksize, None, "")

    def __exit__(self, *error: object) -> None: ...


def test_a_microphone_is_read_until_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", types.SimpleNamespace(RawInputStream=Device))
    chunks = of_microphone(RATE, 0.1)
    assert [float(chunk.mean()) for chunk in (next(chunks) for _ in range(3))] == [0.0, 0.25, 0.5]
    chunks.close()
    with pytest.raises(ConfigError, match="No input device matching 'broken'"):
        next(of_microphone(RATE, 0.1, "broken"))


def test_a_microphone_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DependencyError, match=r"asrkd\[live\]"):
        next(of_microphone(RATE, 0.1))


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--chunk", "0"], "--chunk is 0"),
        (["--decoder", "beam"], "searches whole utterances"),
        (["--end-silence", "0"], "silence_after_words is 0"),
        (["--lexicon", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_a_wrong_setting_is_one_line(speech: Path, run: str, arguments: list[str], wrong: str) -> None:
    found = CliRunner().invoke(cli, ["live", run, str(speech), *arguments])
    assert found.exit_code and wrong in f"{found.output}{found.exception}"


def test_a_model_that_does_not_stream_is_an_error(speech: Path, tmp_path: Path) -> None:
    found = CliRunner().invoke(cli, ["live", make_teacher(tmp_path / "t.pt"), str(speech)])
    assert "BLSTMTeacher has no initial_state" in str(found.exception)
