"""Folders for sherpa-onnx, run by sherpa-onnx."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export.students import student
from numpy.typing import NDArray

from asrkd.acoustic import AcousticModel, load_model
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import read_tokenizer
from asrkd.decoding.greedy import greedy_decode
from asrkd.errors import ConfigError, ModelError
from asrkd.export.sherpa import check_sherpa, export_sherpa, sherpa_graph
from asrkd.export.sherpa_check import heard_online, offline_recognizer, online_recognizer, silence_behind

pytest.importorskip("sherpa_onnx")

Utterances = list[tuple[str, NDArray[np.float32]]]


@pytest.fixture(scope="module")
def utterances(corpus: Path) -> Utterances:
    cuts = list(iterate_json(str(corpus / "labeled.jsonl.gz")))[:6]
    samples = [read_audio(to_cut(cut), 16000) for cut in cuts]
    return [("long", np.concatenate([*samples, *samples[::-1]])), *zip("abc", samples, strict=False)]


@pytest.fixture(scope="module")
def lexicon(corpus: Path) -> Path:
    return corpus / "lexicon.txt"


def model_of(name: str, folder: Path, lexicon: Path, topology: str = "ctc", **front_end: Any) -> AcousticModel:
    words = read_tokenizer(str(lexicon))
    inventory = Inventory.from_lexicon(words, topology, states_per_phone=1)
    settings = FrontEnd.from_dict({"preset": "sherpa", "mean_norm": "causal", **front_end})
    return load_model(student(name, settings, inventory, folder / "final.pt", log_prior=topology == "hmm"))


@pytest.mark.slow
def test_the_sign_of_a_words_beginning_is_one_token(utterances: Utterances, tmp_path: Path) -> None:
    units = Inventory(("<blk>", "▁", "▁a", *"bcd"), "ctc", 1)
    model = load_model(student("LSTMStudent", FrontEnd.from_dict({"preset": "sherpa"}), units, tmp_path / "final.pt"))
    for found in export_sherpa(model, tmp_path / "out", utterances=utterances).comparison.values():
        assert found.tokens and found.errors <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mean_norm"),
    [
        ("LSTMStudent", "causal"),
        ("TDNNStudent", "none"),
        ("EmformerStudent", "causal"),
        ("WhisperStudent", "none"),
    ],
)
def test_sherpa_makes_the_same_tokens_as_one_speaks(
    name: str, mean_norm: str, utterances: Utterances, lexicon: Path, tmp_path: Path
) -> None:
    model = model_of(name, tmp_path, lexicon, mean_norm=mean_norm)
    found = export_sherpa(model, tmp_path / "out", utterances=utterances).comparison["model.onnx"]
    assert found.tokens > 10 and found.errors <= 2, found


@pytest.mark.slow
def test_times_are_those_of_frames_and_more_silence_changes_nothing(
    utterances: Utterances, lexicon: Path, tmp_path: Path
) -> None:
    model = model_of("LSTMStudent", tmp_path, lexicon)
    export_sherpa(model, tmp_path / "out")
    online, offline = online_recognizer(tmp_path / "out"), offline_recognizer(tmp_path / "out")
    small = online_recognizer(tmp_path / "out", model="model.int8.onnx")
    assert (tmp_path / "out/model.int8.onnx").stat().st_size < 0.6 * (tmp_path / "out/model.onnx").stat().st_size
    assert len(heard_online(small, utterances[0][1], 16000, 1.0, None)) > 3
    for _, samples in utterances:
        whole = offline.create_stream()
        whole.accept_waveform(16000, samples)
        offline.decode_stream(whole)
        features = model.front_end(torch.from_numpy(samples))[None]
        path = greedy_decode(
            model.log_probs(features, torch.tensor([features.shape[1]]))[0][0].numpy(), model.inventory
        ).classes
        begins = np.flatnonzero((path != 0) & (path != np.concatenate([[0], path[:-1]])))
        np.testing.assert_allclose(whole.result.timestamps, 0.04 * begins, atol=1e-4)
        for seconds in (silence_behind(tmp_path / "out"), 1.3, 2.0):
            stream = online.create_stream()
            stream.accept_waveform(16000, np.concatenate([samples, np.zeros(int(16000 * seconds), dtype=np.float32)]))
            stream.input_finished()
            while online.is_ready(stream):
                online.decode_stream(stream)
            # A stack of frames that the end cuts off counts in a stream where most of it is there.
            assert len(online.timestamps(stream)) - len(begins) in (0, 1)
            np.testing.assert_allclose(online.timestamps(stream)[: len(begins)], 0.04 * begins, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topology", "sentences", "blank_penalty"), [("ctc", False, 0.0), ("hmm", False, 0.0), ("ctc", True, 2.0)]
)
def test_sherpa_finds_the_words_of_a_graph(
    topology: str, sentences: bool, blank_penalty: float, utterances: Utterances, lexicon: Path, tmp_path: Path
) -> None:
    model = model_of("LSTMStudent", tmp_path, lexicon, topology)
    words = read_tokenizer(str(lexicon))
    grammar = tmp_path / "pairs.fst.txt"
    arcs = [f"{a} {1 - a} {word} {0.1 * n + 1}\n" for a in (0, 1) for n, word in enumerate(words.words or ())]
    grammar.write_text("".join(arcs) + "0 0.5\n")
    graph = sherpa_graph(model, words, grammar=str(grammar) if sentences else None)
    for found in export_sherpa(
        model,
        tmp_path / "out",
        graph=graph,
        acoustic_scale=0.5,
        blank_penalty=blank_penalty,
        utterances=utterances,
    ).comparison.values():
        assert found.tokens > 3 and found.errors == 0, found
    assert (tmp_path / "out/words.txt").read_text().splitlines()[1] == f"{graph.words[1]} 1"


@pytest.mark.slow
def test_streams_of_one_recognizer_do_not_mix(utterances: Utterances, lexicon: Path, tmp_path: Path) -> None:
    """sherpa-onnx joins streams to a batch, each at its own place."""
    model = model_of("LSTMStudent", tmp_path, lexicon)
    export_sherpa(model, tmp_path / "out")
    recognizer = online_recognizer(tmp_path / "out")
    alone = [heard_online(recognizer, samples, 16000, 1.0, None) for _, samples in utterances[:3]]
    streams = []
    for _, samples in utterances[:3]:
        streams.append(recognizer.create_stream())
        streams[-1].accept_waveform(16000, np.concatenate([samples, np.zeros(16000, dtype=np.float32)]))
        streams[-1].input_finished()
    while ready := [stream for stream in streams if recognizer.is_ready(stream)]:
        recognizer.decode_streams(ready)
    assert [list(recognizer.tokens(stream)) for stream in streams] == alone


def test_what_sherpa_cannot_run_is_one_line(lexicon: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="a front end that sherpa-onnx cannot compute .*full_scale is 32768.0, not 1.0"
    ):
        check_sherpa(model_of("TDNNStudent", tmp_path, lexicon, full_scale=32768.0), None)
    with pytest.raises(ConfigError, match="subtracts the mean of whole utterances"):
        check_sherpa(model_of("TDNNStudent", tmp_path, lexicon, mean_norm="utterance"), None)
    with pytest.raises(ConfigError, match="joins 4 frames every 2"):
        check_sherpa(model_of("TDNNStudent", tmp_path, lexicon, stride=2), None)
    with pytest.raises(ConfigError, match="has an output for every 2 frames"):
        check_sherpa(dataclasses.replace(model_of("TDNNStudent", tmp_path, lexicon), subsampling_factor=2), None)
    hmm = model_of("TDNNStudent", tmp_path, lexicon, "hmm")
    with pytest.raises(ConfigError, match="spell nothing without a graph; give --lexicon"):
        check_sherpa(hmm, None)
    with pytest.raises(ConfigError, match="which has no blank; leave it out"):
        export_sherpa(hmm, tmp_path / "out", graph=sherpa_graph(hmm, read_tokenizer(str(lexicon))), blank_penalty=1.0)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match="brings none"):
        check_sherpa(dataclasses.replace(hmm, log_prior=None), None)


def test_words_that_differ_leave_no_folder(
    utterances: Utterances, lexicon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("TDNNStudent", tmp_path, lexicon)
    monkeypatch.setattr("asrkd.export.sherpa_check.heard_online", lambda *_: ["another"] * 50)
    with pytest.raises(ModelError, match="sherpa-onnx makes other tokens of model.onnx"):
        export_sherpa(model, tmp_path / "out", utterances=utterances)
    assert [path.name for path in tmp_path.iterdir()] == ["final.pt"]
