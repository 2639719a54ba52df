"""Graphs and modules in the layouts of NeMo, icefall and sherpa-onnx, compared with the runtime alone, one utterance at a time."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asrkd.acoustic import load_model
from asrkd.acoustic.graph_front_ends import NemoMel
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import DependencyError, ModelError

LENGTHS = (12800, 7123, 23457, 9999)
TOKENS = ["a", "b", "c", "d", "<blk>"]
Oracle = Callable[[np.ndarray], np.ndarray]


class Subsampled(nn.Module):
    """Two convolutions over time, as icefall's (no padding, a quarter of the frames) or NeMo's (padded, an eighth), the blank last."""

    def __init__(self, strides: tuple[int, ...], padding: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = [80, *[16] * len(strides)]
        self.layers = nn.ModuleList(
            nn.Conv1d(size, 16, 3, stride, padding) for size, stride in zip(sizes, strides, strict=False)
        )
        self.output = nn.Linear(16, len(TOKENS))

    def run(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers:
            # As masked convolutions: what is behind an utterance counts as zero.
            x = x * (torch.arange(x.shape[2]) < lengths[:, None])[:, None]
            x = layer(x).relu()
            lengths = (lengths + 2 * layer.padding[0] - 3) // layer.stride[0] + 1
        return (3 * self.output(x.transpose(1, 2))).log_softmax(-1), lengths


class Nemo(Subsampled):
    def forward(self, audio_signal: Tensor, length: Tensor) -> Tensor:
        return self.run(audio_signal, length)[0]


class Icefall(Subsampled):
    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        return self.run(x.transpose(1, 2), x_lens)


def nemo() -> Nemo:
    return Nemo((2, 2, 2), 1).eval()


def icefall() -> Icefall:
    return Icefall((2, 2), 0).eval()


def save(model: nn.Module, folder: Path, metadata: dict[str, str], front_end: dict[str, object] | None = None) -> Path:
    """As the toolkit's export script does: names, dynamic axes, metadata, tokens.txt next to it."""
    path = folder / "model.onnx"
    of_nemo = isinstance(model, Nemo)
    inputs = ["audio_signal", "length"] if of_nemo else ["x", "x_lens"]
    outputs = ["logprobs"] if of_nemo else ["log_probs", "log_probs_len"]
    example = torch.zeros((1, 80, 200) if of_nemo else (1, 200, 80)), torch.tensor([200])
    axes = {inputs[0]: {0: "N", 2 if of_nemo else 1: "T"}, inputs[1]: {0: "N"}, outputs[0]: {0: "N", 1: "U"}}
    torch.onnx.export(
        model, example, str(path), input_names=inputs, output_names=outputs, dynamic_axes=axes, dynamo=False
    )
    graph = onnx.load(path)
    onnx.helper.set_model_props(graph, metadata)
    onnx.save(graph, path)
    describe(path, front_end)
    return path


def describe(path: Path, front_end: dict[str, object] | None) -> None:
    (path.parent / "tokens.txt").write_text("".join(f"{token} {number}\n" for number, token in enumerate(TOKENS)))
    if front_end is not None:
        Path(f"{path}.json").write_text(json.dumps({"front_end": front_end}))


def of_sherpa(samples: np.ndarray, *, of_nemo: bool) -> np.ndarray:
    """As sherpa-onnx makes features, by the library that it uses."""
    options = knf.FbankOptions()
    options.frame_opts.dither, options.frame_opts.snip_edges, options.mel_opts.num_bins = 0.0, False, 80
    options.mel_opts.high_freq = 0.0 if of_nemo else -400.0
    if of_nemo:
        options.mel_opts.low_freq, options.mel_opts.is_librosa = 0.0, True
        options.frame_opts.remove_dc_offset, options.frame_opts.window_type = False, "hann"
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(16000, samples.tolist())
    bank.input_finished()
    x = np.array([bank.get_frame(number) for number in range(bank.num_frames_ready)], dtype=np.float32)
    return (x - x.mean(0)) / (x.std(0) + 1e-5) if of_nemo else x


def of_nemo_toolkit(samples: np.ndarray) -> np.ndarray:
    """As NeMo makes features, by the port of it in transformers."""
    made = transformers.ParakeetFeatureExtractor()(samples, sampling_rate=16000, return_tensors="np")
    return made["input_features"][0][made["attention_mask"][0].astype(bool)]


def check(spec: str, oracle: Oracle) -> None:
    teacher = load_model(spec)
    assert teacher.inventory.units == ("<blk>", *TOKENS[:-1])
    rng = np.random.default_rng(0)
    utterances = [(0.1 * rng.normal(size=length)).astype(np.float32) for length in LENGTHS]
    features = [teacher.front_end(torch.from_numpy(one)) for one in utterances]
    found, frames = teacher.log_probs(pad_sequence(features, batch_first=True), torch.tensor(LENGTHS))
    for one, row, length in zip(utterances, found, frames.tolist(), strict=True):
        expected = torch.from_numpy(oracle(one))[:, [len(TOKENS) - 1, *range(len(TOKENS) - 1)]]
        assert length == len(expected) and float(expected.std(0).mean()) > 0.01
        torch.testing.assert_close(row[:length], expected, atol=1e-4, rtol=0)


def test_the_bpe_model_next_to_the_tokens_spells_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    made, path = (
        io.BytesIO(),
        save(icefall(), tmp_path, {"model_type": "zipformer2_ctc", "version": "1", "model_author": "k2-fsa"}),
    )
    options = {"vocab_size": 4, "model_type": "char", "unk_id": 0, "bos_id": -1, "eos_id": -1, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(["ab a b"] * 9), model_writer=made, **options)
    (tmp_path / "bpe.model").write_bytes(made.getvalue())
    # Of other tokens it is not taken, and told.
    assert load_model(f"onnx:{path}").tokenizer is None and "spells with 1 tokens" in caplog.text
    pieces = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    names = [pieces.id_to_piece(number) for number in range(4)]
    (tmp_path / "tokens.txt").write_text("".join(f"{name} {n}\n" for n, name in enumerate([*names, "<blk>"])))
    tokenizer = load_model(f"onnx:{path}").tokenizer
    assert tokenizer is not None and [word[0] for word in tokenizer.encode("ab b")] == [
        tuple(pieces.encode(word)) for word in ("ab", "b")
    ]


def by_onnxruntime(path: Path, features: Oracle, *, channels_first: bool) -> Oracle:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(samples: np.ndarray) -> np.ndarray:
        x = features(samples)
        return session.run(None, {names[0]: (x.T if channels_first else x)[None], names[1]: np.array([len(x)])})[0][0]

    return run


@pytest.mark.slow
def test_nemo_with_metadata_of_sherpa(tmp_path: Path) -> None:
    metadata = {"model_type": "EncDecCTCModelBPE", "normalize_type": "per_feature", "subsampling_factor": "8", "vocab_size": "4"}  # fmt: skip
    path = save(nemo(), tmp_path, metadata)
    check(f"onnx:{path}", by_onnxruntime(path, lambda one: of_sherpa(one, of_nemo=True), channels_first=True))


@pytest.mark.slow
def test_nemo_with_its_own_features(tmp_path: Path) -> None:
    path = save(nemo(), tmp_path, {}, {"preset": "nemo"})
    check(f"onnx:{path}", by_onnxruntime(path, of_nemo_toolkit, channels_first=True))


@pytest.mark.slow
def test_icefall_with_metadata(tmp_path: Path) -> None:
    path = save(icefall(), tmp_path, {"model_type": "zipformer2_ctc", "version": "1", "model_author": "k2-fsa"})
    check(f"onnx:{path}", by_onnxruntime(path, lambda one: of_sherpa(one, of_nemo=False), channels_first=False))


@pytest.mark.slow
def test_icefall_with_a_named_front_end(tmp_path: Path) -> None:
    front_end = {"preset": "sherpa", "stack": 1, "stride": 1}
    path = save(icefall(), tmp_path, {}, front_end)
    made = FrontEnd.from_dict(front_end)
    check(
        f"onnx:{path}",
        by_onnxruntime(path, lambda one: made(torch.from_numpy(one)).numpy(), channels_first=False),
    )


@pytest.mark.parametrize("make", [nemo, icefall])
def test_scripted_modules(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    model, of_nemo = make(), make is nemo
    path = tmp_path / "model.pt"
    torch.jit.script(model).save(str(path))
    describe(path, {"preset": "nemo"} if of_nemo else {"preset": "whisper"})
    made = NemoMel() if of_nemo else FrontEnd.from_dict({"preset": "whisper"})

    def oracle(samples: np.ndarray) -> np.ndarray:
        x = made(torch.from_numpy(samples))
        with torch.no_grad():
            output = model((x.T if of_nemo else x)[None], torch.tensor([len(x)]))
        return (output if of_nemo else output[0])[0].numpy()

    check(f"torchscript:{path}", oracle)


@pytest.mark.parametrize(
    ("metadata", "front_end", "message"),
    [
        ({}, None, "does not say what its features are: it has no metadata; name them in PATH.json"),
        ({"model_type": "sense_voice"}, None, "model_type 'sense_voice', whose features are not known here"),
        (
            {"model_type": "EncDecCTCModel", "normalize_type": "all"},
            None,
            "normalize_type 'all', but sherpa-onnx knows",
        ),
        ({}, {"preset": "kaldi"}, "front_end.preset: must be one of study, sherpa, whisper.* or give the preset nemo"),
        ({}, {"preset": "nemo", "mels": 3}, "front_end: .*'mels'.*preset nemo"),
        ({}, {"preset": "nemo", "num_mels": 64}, "cannot read what its front end .*64.* makes of noise"),
    ],
)
def test_front_ends_that_are_not_known(
    metadata: dict[str, str], front_end: dict[str, object] | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message) as raised:
        load_model(f"onnx:{save(nemo(), tmp_path, metadata, front_end)}")
    assert "\n" not in str(raised.value)


def test_tokens_that_are_not_those_of_the_graph(tmp_path: Path) -> None:
    spec = f"onnx:{save(nemo(), tmp_path, {}, {'preset': 'nemo'})}"
    (tmp_path / "tokens.txt").write_text("a 0\nb 1\n<blk> 2\n")
    with pytest.raises(ModelError, match="gives 5 classes, but the tokens.txt next to it has 3 tokens"):
        load_model(spec)
    (tmp_path / "tokens.txt").write_text("a 0\nb 1\n")
    with pytest.raises(ModelError, match="has no blank"):
        load_model(spec)
    (tmp_path / "tokens.txt").unlink()
    with pytest.raises(ModelError, match="there is no '.*tokens.txt', so its classes have no names"):
        load_model(spec)


def test_a_module_that_is_described_whole_is_asrkds_whatever_its_arguments_are_called(tmp_path: Path) -> None:
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Linear(192, 3)

        def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
            return self.output(x), x_lens + 0

    path = tmp_path / "model.pt"
    torch.jit.script(Linear()).save(str(path))
    inventory = {"units": ["<blk>", "l", "h"], "topology": "ctc"}
    Path(f"{path}.json").write_text(json.dumps({"front_end": FrontEnd().to_dict(), "inventory": inventory}))
    assert load_model(f"torchscript:{path}").front_end == FrontEnd()


@pytest.mark.parametrize(
    ("spec", "package", "install"),
    [
        ("nemo:parakeet.nemo", "nemo", r"nemo-toolkit\[asr\]"),
        ("funasr:FunAudioLLM/SenseVoiceSmall", "funasr", "funasr"),
    ],
)
def test_packages_that_are_not_installed(
    spec: str, package: str, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError, match=f"model '{spec}' needs .*: pip install '{install}'$"):
        load_model(spec)


def test_a_file_of_nemo_without_its_kind() -> None:
    with pytest.raises(ModelError, match="is given as nemo:parakeet.nemo"):
        load_model("parakeet.nemo")
