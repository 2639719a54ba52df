"""The page: its graph is the model on samples, and in Chromium it writes what asrkd decodes greedily."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from chromium import BROWSER, browser, served
from export.students import STUDENTS, student
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.acoustic import AcousticModel, load_model
from asrkd.corpus.characters import Characters
from asrkd.corpus.front_end import FrontEnd, mirrored
from asrkd.corpus.inventory import Inventory
from asrkd.decoding.search import Search
from asrkd.errors import ConfigError, DependencyError
from asrkd.export import web
from asrkd.export.samples_graph import SamplesGraph
from asrkd.export.web import RUNTIME, export_web
from asrkd.models import BLSTMTeacher, LSTMStudent
from asrkd.store.card import CardFacts

pytest.importorskip("onnx")
RATE = 16000
UNITS = Inventory(("<blk>", "▁", *"abcd"), "ctc")
FRONT_ENDS = {
    "study": FrontEnd(mean_norm="causal"),
    "sherpa": FrontEnd.from_dict({"preset": "sherpa"}),
    "8kHz": FrontEnd(8000, 20, stack=2, stride=2, mean_norm="causal"),
}
# Students that stream, each with the front ends that it takes.
STREAMING = [
    (name, preset)
    for name in STUDENTS
    if name != "ConformerTeacher"
    for preset in FRONT_ENDS
    if name != "WhisperStudent" or preset == "sherpa"
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], AcousticModel]:
    folder = tmp_path_factory.mktemp("models")
    return {
        (name, preset): load_model(student(name, FRONT_ENDS[preset], UNITS, folder / f"{name}-{preset}.pt"))
        for name, preset in STREAMING
    }


def through(graph: SamplesGraph, front_end: FrontEnd, samples: torch.Tensor, steps: int, frames: int) -> torch.Tensor:
    """The logits of a signal chunk by chunk, as the page feeds them."""
    law = front_end.frame_law()
    behind = law.begin + (law.num_windows(len(samples)) - 1) * law.shift + law.window - len(samples)
    rest = mirrored(samples, -law.begin, max(behind, 0))
    first, *state = graph.initial_state(1)
    first[0] = rest[: graph.overlap]
    state, rest = [first, *state], rest[graph.overlap :]
    size, delay, rows = steps * graph.samples_per_chunk, graph.model.output_delay, []
    per_chunk = size // graph.frame_shift
    while len(rows) * per_chunk < frames + delay:
        part, rest = torch.nn.functional.pad(rest[:size], (0, size - len(rest[:size]))), rest[size:]
        real = torch.arange(len(rows) * per_chunk, (len(rows) + 1) * per_chunk) < frames
        logits, *state = graph(part[None], real.float()[None], *state)
        rows.append(logits[0])
    return torch.cat(rows)[delay : delay + frames]


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(STREAMING),
    st.integers(500, 20000),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_the_graph_of_samples_is_front_end_and_model(
    models: dict[tuple[str, str], AcousticModel], case: tuple[str, str], length: int, steps: int, seed: int
) -> None:
    model, front_end = models[case], FRONT_ENDS[case[1]]
    samples = 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(seed))
    features = front_end(samples)[None]
    if not features.shape[1]:
        return
    with torch.no_grad():
        expected = model.logits(features, torch.tensor([features.shape[1]]))[0][0]
        found = through(SamplesGraph(model.network, front_end), front_end, samples, steps, len(expected))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"mean_norm": "utterance"}, "subtracts the mean of whole utterances"),
        ({"stride": 2}, "joins 3 frames every 2"),
        ({"preset": "whisper"}, "Whisper's features"),
        ({"frame_length_ms": 10.0}, "not longer than their shift"),
    ],
)
def test_a_front_end_that_cannot_be_in_the_graph_is_named(change: dict[str, object], wrong: str) -> None:
    front_end = FrontEnd.from_dict({"mean_norm": "causal"} | change)
    with pytest.raises(ConfigError, match=wrong):
        SamplesGraph(LSTMStudent(front_end.feature_dim, 4, 8, 1), front_end)


def a_model(network: torch.nn.Module, inventory: Inventory = UNITS, tokenizer: object = None) -> AcousticModel:
    return AcousticModel(network.eval(), FRONT_ENDS["study"], inventory, 1, "test:x", "f", tokenizer=tokenizer)  # type: ignore[arg-type]


def test_what_the_page_cannot_run_or_write_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = Inventory(("SIL", "a", "b"), "hmm", 1)
    with pytest.raises(ConfigError, match="topology 'hmm'"):
        export_web(a_model(LSTMStudent(192, 3, 8, 1), states), tmp_path / "out")
    with pytest.raises(ConfigError, match="BLSTMTeacher has no initial_state"):
        export_web(a_model(BLSTMTeacher(192, 6, 8, 1)), tmp_path / "out")
    other = Characters(UNITS.units, "")  # writes the sign of a word's beginning as it is
    with pytest.raises(ConfigError, match="as the page would show them"):
        export_web(a_model(LSTMStudent(192, 6, 8, 1), tokenizer=other), tmp_path / "out")
    good = a_model(LSTMStudent(192, 6, 8, 1))
    (tmp_path / "other.tgz").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="is not the tarball of onnxruntime-web"):
        export_web(good, tmp_path / "out", runtime=tmp_path / "other.tgz")
    with pytest.raises(ConfigError, match="cannot be read"):
        export_web(good, tmp_path / "out", runtime=tmp_path / "missing.tgz")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DependencyError, match="install Node.js"):
        export_web(good, tmp_path / "out")
    (tmp_path / "npm").write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(DependencyError, match="no network"):
        export_web(good, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm")
    try:
        return web._fetch(folder)
    except DependencyError as error:
        pytest.skip(f"{RUNTIME} cannot be fetched: {error}")


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
@pytest.mark.parametrize(
    ("name", "preset", "kind"),
    [
        ("LSTMStudent", "study", "float32"),
        ("EmformerStudent", "sherpa", "int8"),
        ("WhisperStudent", "sherpa", "float32"),
    ],
)
def test_the_page_writes_what_is_decoded(
    models: dict[tuple[str, str], AcousticModel], runtime: Path, tmp_path: Path, name: str, preset: str, kind: str
) -> None:
    model = models[name, preset]
    page_folder = tmp_path / "page"
    assert export_web(model, page_folder, runtime=runtime, kind=kind, facts=CardFacts("The student")).num_bytes < 15e6
    rng = np.random.default_rng(0)
    loudness = np.repeat(rng.uniform(0.001, 0.3, 30), RATE // 10)
    soundfile.write(tmp_path / "speech.wav", loudness * rng.standard_normal(len(loudness)).clip(-3, 3), RATE)
    samples, _ = soundfile.read(tmp_path / "speech.wav", dtype="float32")
    features = model.front_end(torch.from_numpy(samples))[None]
    scores, _ = model.scores(features, torch.tensor([features.shape[1]]))
    expected = Search(None, model).texts([("speech", scores[0].numpy())])["speech"]
    assert len(expected) > 5
    status = "document.getElementById('status').textContent"
    text = "document.getElementById('text').textContent"
    with served(page_folder) as address, browser(tmp_path / "profile", microphone=tmp_path / "speech.wav") as page:
        page.call("Page.navigate", url=address)
        page.wait(f"document.readyState == 'complete' && {status} == 'ready'")
        assert page.value("document.getElementById('about').textContent").startswith("The student.")
        page.open_file("#file", tmp_path / "speech.wav")
        page.wait(f"{status}.startsWith('done')")
        found = page.value(text).split()
        if kind == "float32":
            assert found == expected.split()  # a longer silence would end an utterance, and its line
        else:
            assert found
        page.value("document.getElementById('microphone').click()")
        page.wait(f"{status}.includes('lag') && {text} != ''")
        page.value("document.getElementById('microphone').click()")
        page.wait(f"{status}.startsWith('done')")
        (tmp_path / "broken.wav").write_bytes(b"no audio")
        page.open_file("#file", tmp_path / "broken.wav")
        page.wait("document.getElementById('status').className == 'error'")


def test_npm_fetches_the_version_that_is_pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = []

    def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (tmp_path / "onnxruntime-web.tgz").write_bytes(b"")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(web.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(web.subprocess, "run", run)
    assert web._fetch(tmp_path).name == "onnxruntime-web.tgz"
    assert commands == [["/bin/npm", "pack", RUNTIME, "--silent"]]
