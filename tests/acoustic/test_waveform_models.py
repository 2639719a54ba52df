"""Every kind of teacher: loaded the way users load it, compared with the model itself, and known by its fingerprint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchaudio
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet

from asrkd.acoustic import load_model
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.waveform import Waveform, law_of_convolutions
from asrkd.errors import ConfigError, MismatchError, ModelError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.verify import verify
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source

UNITS = ["<pad>", "<s>", "</s>", "<unk>", "|", "l", "h"]
SMALL = {
    "vocab_size": len(UNITS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "pad_token_id": 0,
}


def save_transformers(folder: Path, kind: str, **changes: Any) -> str:
    """A small model with random weights, its tokenizer and its feature extractor, as `save_pretrained` writes them."""
    torch.manual_seed(0)
    settings = SMALL | {"feat_extract_norm": "group"} | changes
    model = getattr(transformers, f"{kind}ForCTC")(getattr(transformers, f"{kind}Config")(**settings))
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({unit: number for number, unit in enumerate(UNITS)}))
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    large = settings["feat_extract_norm"] == "layer"
    transformers.Wav2Vec2FeatureExtractor(do_normalize=large, return_attention_mask=large).save_pretrained(folder)
    return f"transformers:{folder}"


def as_transformers_does(folder: Path, samples: np.ndarray) -> torch.Tensor:
    """Log-posteriors by transformers' own pipeline of extractor and model, one utterance."""
    model = transformers.AutoModelForCTC.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(samples, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits[0].log_softmax(-1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Wav2Vec2", {}),
        ("Wav2Vec2", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
        ("Hubert", {}),
        ("WavLM", {"feat_extract_norm": "layer"}),
    ],
    ids=["wav2vec2", "wav2vec2-large", "hubert", "wavlm-large"],
)
def test_transformers_label_a_corpus(kind: str, changes: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    spec = save_transformers(tmp_path / "model", kind, **changes)
    teacher = load_model(spec)
    assert teacher.inventory.units == ("<blk>", *UNITS[1:]) and teacher.inventory.topology_name == "ctc"
    root = str(tmp_path / "store")
    plan(str(corpus / "unlabeled.jsonl.gz"), root, teacher=spec, codec="dense", embed="audio")
    run(Local(Store.open(root)))
    cuts = {cut.id: cut for cut in CutSet.from_file(corpus / "unlabeled.jsonl.gz")}
    rows = list(Store.open(root).rows())
    assert len(rows) == len(cuts) and verify(root) == []
    for row in rows[:5]:
        expected = as_transformers_does(tmp_path / "model", cuts[row["id"]].load_audio()[0])
        assert row["num_frames"] == len(expected)
        np.testing.assert_allclose(Store.open(root).targets(row).to_dense(), expected.numpy(), atol=2e-4)
    # A student of the same window and shift can learn from it.
    front_end = FrontEnd(frame_shift_ms=20, stack=1, stride=1, mean_norm="causal")
    loader = Loader({"soft": Source("soft", Store.open(root))}, front_end=front_end, max_frames=2000, max_utterances=8)
    [batch] = next(loader.steps({"soft": 1}))
    assert batch.features.shape[2] == 64 and len(batch.targets.missing) == int(batch.num_frames.sum())


@given(st.integers(400, 50_000))
@settings(max_examples=60, deadline=None)
def test_the_frame_law_is_that_of_the_convolutions(num_samples: int) -> None:
    config = transformers.Wav2Vec2Config(**SMALL)
    window, shift = law_of_convolutions(list(config.conv_kernel), list(config.conv_stride))
    assert (window, shift) == (400, 320)
    length = num_samples
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        length = (length - kernel) // stride + 1
    assert Waveform(16000, window=window, shift=shift).frame_law().num_frames(num_samples) == length


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> str:
    """A bundle of torchaudio with a small architecture, whose download gives random weights."""
    name = "WAV2VEC2_ASR_BASE_960H"
    chosen = getattr(torchaudio.pipelines, name)
    small = chosen._params | {
        "encoder_embed_dim": 16,
        "encoder_num_layers": 1,
        "encoder_num_heads": 2,
        "encoder_ff_interm_features": 16,
        "encoder_pos_conv_kernel": 4,
        "encoder_pos_conv_groups": 2,
    }
    torch.manual_seed(0)
    weights = torchaudio.models.wav2vec2_model(**small).state_dict()

    def download(dl_kwargs: dict[str, Any]) -> dict[str, torch.Tensor]:
        assert dl_kwargs == {"weights_only": True}
        return weights

    monkeypatch.setattr(chosen, "_params", small)
    monkeypatch.setattr(chosen, "_get_state_dict", download)
    return name


@pytest.mark.slow
def test_a_bundle_of_torchaudio(bundle: str, corpus: Path, tmp_path: Path) -> None:
    teacher = load_model(f"torchaudio:{bundle}")
    chosen = getattr(torchaudio.pipelines, bundle)
    assert teacher.inventory.units == ("<blk>", *chosen.get_labels()[1:])
    root = str(tmp_path / "store")
    plan(str(corpus / "unlabeled.jsonl.gz"), root, teacher=f"torchaudio:{bundle}", codec="dense", embed="audio")
    run(Local(Store.open(root)))
    model = chosen.get_model(dl_kwargs={"weights_only": True})
    cuts = {cut.id: cut for cut in CutSet.from_file(corpus / "unlabeled.jsonl.gz")}
    for row in list(Store.open(root).rows())[:5]:
        with torch.no_grad():
            expected = model(torch.from_numpy(cuts[row["id"]].load_audio()))[0][0].log_softmax(-1)
        np.testing.assert_allclose(Store.open(root).targets(row).to_dense(), expected.numpy(), atol=2e-4)


def test_bundles_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"torchaudio has no CTC bundle 'NONE'; it has .*WAV2VEC2_ASR_BASE_960H"):
        load_model("torchaudio:NONE")

    def offline(dl_kwargs: dict[str, Any]) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H, "_get_state_dict", offline)
    with pytest.raises(ModelError, match=r"its weights cannot be loaded \(OSError: no network\)"):
        load_model("torchaudio:WAV2VEC2_ASR_BASE_960H")


class Toy(torch.nn.Module):
    """A linear layer over the features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.output = torch.nn.Linear(192, 3)

    def forward(self, features: torch.Tensor, feature_lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.output(features), feature_lengths + 0


DESCRIPTION = {
    "front_end": FrontEnd().to_dict(),
    "inventory": {"units": ["<blk>", "l", "h"], "topology": "ctc"},
    "subsampling_factor": 1,
}


def save_onnx(folder: Path) -> str:
    names = ("features", "feature_lengths", "logits", "logit_lengths")
    value = onnx.helper.make_tensor_value_info
    weights = Toy().output
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("MatMul", ["features", "weight"], ["product"]),
            onnx.helper.make_node("Add", ["product", "bias"], ["logits"]),
            onnx.helper.make_node("Identity", ["feature_lengths"], ["logit_lengths"]),
        ],
        "toy",
        [value(names[0], onnx.TensorProto.FLOAT, ["n", "t", 192]), value(names[1], onnx.TensorProto.INT64, ["n"])],
        [value(names[2], onnx.TensorProto.FLOAT, ["n", "t", 3]), value(names[3], onnx.TensorProto.INT64, ["n"])],
        [
            onnx.numpy_helper.from_array(weights.weight.detach().numpy().T.copy(), "weight"),
            onnx.numpy_helper.from_array(weights.bias.detach().numpy(), "bias"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "toy.onnx")
    (folder / "toy.onnx.json").write_text(json.dumps(DESCRIPTION))
    return f"onnx:{folder / 'toy.onnx'}"


def save_torchscript(folder: Path) -> str:
    torch.jit.script(Toy()).save(str(folder / "toy.pt"))
    (folder / "toy.pt.json").write_text(json.dumps(DESCRIPTION))
    return f"torchscript:{folder / 'toy.pt'}"


@pytest.mark.parametrize("save", [save_onnx, save_torchscript])
def test_graphs_give_what_the_model_gives(save: Callable[[Path], str], tmp_path: Path) -> None:
    teacher = load_model(save(tmp_path))
    features, lengths = torch.randn(2, 9, 192), torch.tensor([9, 4])
    found, out_lengths = teacher.log_probs(features, lengths)
    torch.testing.assert_close(found, Toy()(features, lengths)[0].log_softmax(-1), atol=1e-5, rtol=0)
    assert out_lengths.tolist() == [9, 4]


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def another_mel_count(content: dict[str, Any]) -> None:
    content["front_end"]["num_mels"] = 32
    content["front_end"]["stack"] = 6


def another_order(content: dict[str, Any]) -> None:
    content["inventory"]["units"] = ["<blk>", "h", "l"]


@pytest.mark.parametrize("save", [save_onnx, save_torchscript])
@pytest.mark.parametrize("edit", [another_mel_count, another_order])
def test_another_front_end_or_inventory_is_another_teacher(
    save: Callable[[Path], str], edit: Callable[[dict[str, Any]], None], corpus: Path, tmp_path: Path
) -> None:
    spec = save(tmp_path)
    root = str(tmp_path / "store")
    plan(str(corpus / "unlabeled.jsonl.gz"), root, teacher=spec, embed="audio")
    change(tmp_path / (spec.rpartition("/")[2] + ".json"), edit)
    with pytest.raises(MismatchError, match="now has the fingerprint"):
        run(Local(Store.open(root)))


def test_one_bit_of_the_weights_is_another_teacher(corpus: Path, tmp_path: Path) -> None:
    spec = save_onnx(tmp_path)
    flip(tmp_path / "toy.onnx", len((tmp_path / "toy.onnx").read_bytes()) // 2)
    flipped = load_model(spec).fingerprint
    flip(tmp_path / "toy.onnx", len((tmp_path / "toy.onnx").read_bytes()) // 2)
    assert load_model(spec).fingerprint != flipped
    folder = tmp_path / "model"
    spec = save_transformers(folder, "Wav2Vec2")
    root = str(tmp_path / "store")
    plan(str(corpus / "unlabeled.jsonl.gz"), root, teacher=spec, embed="audio")
    flip(folder / "model.safetensors", len((folder / "model.safetensors").read_bytes()) - 8)
    with pytest.raises(MismatchError, match="now has the fingerprint"):
        run(Local(Store.open(root)))
    flip(folder / "model.safetensors", len((folder / "model.safetensors").read_bytes()) - 8)
    (folder / "vocab.json").write_text(json.dumps({u: n for n, u in enumerate([*UNITS[:5], "h", "l"])}))
    (folder / "tokenizer.json").unlink(missing_ok=True)
    with pytest.raises(MismatchError, match="now has the fingerprint"):
        run(Local(Store.open(root)))


def test_models_that_cannot_be_used(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(ModelError, match=r"'.*none' cannot be loaded as a CTC model of transformers"):
        load_model(f"transformers:{tmp_path / 'none'}")
    spec = save_transformers(tmp_path / "model", "Wav2Vec2")
    with pytest.raises(ConfigError, match="reads samples, so there are no features to embed"):
        plan(str(corpus / "unlabeled.jsonl.gz"), str(tmp_path / "store"), teacher=spec, embed="features")
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="onnxruntime .* cannot load '.*bad.onnx'"):
        load_model(f"onnx:{tmp_path / 'bad.onnx'}")
    spec = save_onnx(tmp_path)
    (tmp_path / "toy.onnx.json").unlink()
    with pytest.raises(ModelError, match="toy.onnx.json' cannot be read"):
        load_model(spec)
    save_onnx(tmp_path)
    model = onnx.load(tmp_path / "toy.onnx")
    model.graph.input[1].name = model.graph.node[2].input[0] = "lengths"
    onnx.save(model, tmp_path / "toy.onnx")
    with pytest.raises(
        ModelError, match=r"inputs features .*, lengths .* layouts that are known .*audio_signal, length \(NeMo\)"
    ):
        load_model(f"onnx:{tmp_path / 'toy.onnx'}")
    with pytest.raises(
        ModelError,
        match="'vosk:x' is of no known kind; give one of checkpoint:PATH, int8:PATH, torchscript:PATH, onnx",
    ):
        load_model("vosk:x")
