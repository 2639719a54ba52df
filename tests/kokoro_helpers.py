"""A folder of Kokoro's that sherpa-onnx takes, whose graph is a few sines in place of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NAMES = ("af_one", "am_two", "bf_three", "zf_four")
RATE, TOKEN_SAMPLES = 24000, 1200


def write_folder(folder: Path, *, names: tuple[str, ...] = NAMES, metadata: dict[str, str] | None = None) -> Path:
    """Each token is 50 ms of a sine, whose frequency its number and the voice choose."""
    folder.mkdir()
    times = (2 * np.pi * 40 * np.arange(TOKEN_SAMPLES) / RATE).astype(np.float32)
    constants = {"times": times[None, None], "end": np.array([2]), "flat": np.array([-1]), "first": np.array(0)}
    nodes = [
        helper.make_node("Cast", ["tokens"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "end"], ["columns"]),
        helper.make_node("Gather", ["style", "first"], ["voice"], axis=1),
        helper.make_node("Add", ["columns", "voice"], ["pitches"]),
        helper.make_node("Div", ["pitches", "speed"], ["slowed"]),
        helper.make_node("Mul", ["slowed", "times"], ["phases"]),
        helper.make_node("Sin", ["phases"], ["waves"]),
        helper.make_node("Reshape", ["waves", "flat"], ["audio"]),
    ]
    inputs = [
        helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "length"]),
        helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 4]),
        helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
    ]
    outputs = [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["samples"])]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "voices", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    facts = {
        "model_type": "kokoro", "language": "English", "has_espeak": "1", "sample_rate": str(RATE), "version": "2", "voice": "en-us",
        "style_dim": "64,1,4", "n_speakers": str(len(names)), "speaker_names": ",".join(names),
    }  # fmt: skip
    helper.set_model_props(model, facts | (metadata or {}))
    onnx.save(model, folder / "model.onnx")
    np.repeat(np.arange(len(names), dtype=np.float32), 64 * 4).tofile(folder / "voices.bin")
    (folder / "tokens.txt").write_text("".join(f"{unit} {number}\n" for number, unit in enumerate("$;:,.!? abc")))
    (folder / "lexicon-us-en.txt").write_text("call a b\ndoor b c a\n")
    return folder
