"""Graphs against the models that they were made of, run by onnxruntime."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from export.students import STUDENTS, student

from asrkd.acoustic import load_model
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import read_tokenizer
from asrkd.errors import ConfigError
from asrkd.export.onnx_export import export_onnx
from asrkd.export.onnx_file import open_session

onnx = pytest.importorskip("onnx")

FRONT_END = FrontEnd.from_dict({"preset": "sherpa", "mean_norm": "causal"})
INVENTORY = Inventory(("<blk>", *(f"t{n}" for n in range(11))), "ctc", 1)


def overflows() -> bool:
    """Whether onnxruntime's sums of 8-bit products overflow here, as on CPUs without instructions for int8; 7 bits are for these (`write_int8`)."""
    import onnxruntime

    helper, types = onnx.helper, onnx.TensorProto
    weights = helper.make_tensor("weights", types.INT8, [64, 16], [127] * 1024)
    inputs = [helper.make_tensor_value_info("inputs", types.UINT8, [1, 64])]
    outputs = [helper.make_tensor_value_info("sums", types.INT32, [1, 16])]
    node = helper.make_node("MatMulInteger", ["inputs", "weights"], ["sums"])
    model = helper.make_model(
        helper.make_graph([node], "sums", inputs, outputs, [weights]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"inputs": np.full((1, 64), 255, np.uint8)})
    return bool((sums != 64 * 255 * 127).any())


@pytest.fixture(scope="module", params=STUDENTS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    spec = student(request.param, FRONT_END, INVENTORY, folder / "final.pt")
    export_onnx(load_model(spec), folder / "out", reduce_range=overflows())
    return spec, folder / "out"


@pytest.mark.slow
def test_any_chunks_with_carried_state_are_the_model(exported: tuple[str, Path]) -> None:
    spec, out = exported
    network = load_model(spec).network
    if not hasattr(network, "stream"):
        assert not (out / "stream.onnx").exists()
        return
    session = open_session(out / "stream.onnx")
    names = [one.name for one in session.get_inputs()]
    rng = np.random.default_rng(0)
    for trial in range(100):
        batch = (1, 3, 8)[trial % 3]
        state = network.initial_state(batch)
        carried = [part.numpy() for part in state]
        for _ in range(3):
            frames = network.chunk_frames if network.chunk_frames > 1 else int(rng.integers(1, 12))
            features = torch.from_numpy(rng.standard_normal((batch, frames, FRONT_END.feature_dim)).astype(np.float32))
            with torch.no_grad():
                logits, state = network.stream(features, state)
            found, *carried = session.run(None, dict(zip(names, [features.numpy(), *carried], strict=True)))
            np.testing.assert_allclose(found, logits.numpy(), atol=1e-4)
        for expected, part in zip(state, carried, strict=True):
            np.testing.assert_allclose(part, expected.numpy(), atol=1e-4)


@pytest.mark.slow
def test_whole_utterances_are_a_model_of_asrkd(exported: tuple[str, Path]) -> None:
    spec, out = exported
    model, graph = load_model(spec), load_model(f"onnx:{out}/model.onnx")
    assert graph.front_end == FRONT_END and graph.inventory == INVENTORY
    for lengths in ([7], [1], [50, 1, 31], [4, 9, 30, 2, 17, 16, 5, 61]):
        features = torch.randn(len(lengths), max(lengths), FRONT_END.feature_dim)
        expected, expected_lengths = model.log_probs(features, torch.tensor(lengths))
        found, found_lengths = graph.log_probs(features, torch.tensor(lengths))
        assert found_lengths.tolist() == expected_lengths.tolist()
        for n, length in enumerate(found_lengths.tolist()):
            torch.testing.assert_close(found[n, :length], expected[n, :length], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_smaller_types_are_smaller_and_describe_themselves(exported: tuple[str, Path]) -> None:
    spec, out = exported
    network = load_model(spec).network
    if not hasattr(network, "stream"):
        return
    sizes = {kind: (out / f"stream{kind}.onnx").stat().st_size for kind in ("", ".float16", ".int8")}
    assert sizes[".float16"] < 0.8 * sizes[""] and sizes[".int8"] < 0.8 * sizes[""]
    features = torch.randn(2, 4 * network.chunk_frames if network.chunk_frames == 1 else network.chunk_frames, 320)
    with torch.no_grad():
        logits = network.stream(features, network.initial_state(2))[0].numpy()
    for kind, scale in ((".float16", 1e-2), (".int8", 0.2)):
        path = out / f"stream{kind}.onnx"
        session = open_session(path)
        fed = [features.numpy(), *(part.numpy() for part in network.initial_state(2))]
        found = session.run(None, dict(zip([one.name for one in session.get_inputs()], fed, strict=True)))[0]
        assert np.abs(found - logits).max() < scale * np.abs(logits).max()
        facts = json.loads(session.get_modelmeta().custom_metadata_map["asrkd"])
        assert facts["stream"]["output_delay"] == network.output_delay
        assert facts == json.loads(Path(f"{path}.json").read_text())


@pytest.mark.slow
def test_a_graph_brings_the_tokenizer_of_its_student(tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("<blk> 0\na 1\nb 2\n<space> 3\n")
    tokenizer = read_tokenizer(f"characters:{tmp_path / 'tokens.txt'}")
    inventory = Inventory.from_lexicon(tokenizer, "ctc")
    spec = student("TDNNStudent", FRONT_END, inventory, tmp_path / "final.pt")
    model = dataclasses.replace(load_model(spec), tokenizer=tokenizer)
    export_onnx(model, tmp_path / "out", types=["float32"])
    (tmp_path / "tokens.txt").unlink()
    read = load_model(f"onnx:{tmp_path}/out/model.onnx").tokenizer
    assert read is not None and read.tokens == tokenizer.tokens and read.decode([0, 1]) == tokenizer.decode([0, 1])


def test_what_cannot_be_exported_is_one_line(tmp_path: Path) -> None:
    model = load_model(student("TDNNStudent", FRONT_END, INVENTORY, tmp_path / "final.pt"))
    with pytest.raises(ConfigError, match="type 'int4' is not known"):
        export_onnx(model, tmp_path / "out", types=["int4"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/kept").write_text("precious")
    with pytest.raises(ConfigError, match="is not empty"):
        export_onnx(model, tmp_path / "full")
    with pytest.raises(ConfigError, match="8-bit weights of torch"):
        export_onnx(load_model(f"int8:{tmp_path}/final.pt"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final.pt", "full"]
