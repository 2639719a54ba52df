"""8-bit graphs of students that were trained in 8 bits: their weights, value for value."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from export.students import student
from torch import nn

from asrkd.acoustic import AcousticModel, TrainedModel, load_model
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.export.graphs import StreamGraph
from asrkd.export.onnx_export import export_onnx, trained_matrices
from asrkd.export.onnx_file import run_graph
from asrkd.export.onnx_int8 import write_int8
from asrkd.models import quantized_parameters, rounded_weights

onnx = pytest.importorskip("onnx")

FRONT_END = FrontEnd.from_dict({"preset": "sherpa"})
UNITS = Inventory(("<blk>", *(f"t{n}" for n in range(11))), "ctc", 1)


def model_of(name: str, folder: Path, *, int8: bool) -> AcousticModel:
    spec = student(name, FRONT_END, UNITS, folder / "final.pt")
    written = dataclasses.replace(TrainedModel.read(folder / "final.pt"), int8_trained=int8)
    written.save(folder / "final.pt")
    return load_model(spec)


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """The 8-bit tensors of a graph in float32, by name."""
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer}
    found = {}
    for node in onnx.load(str(path)).graph.node:
        if node.op_type == "MatMulInteger":
            weight = node.input[1]
            found[weight] = tensors[weight].astype(np.float32) * tensors[weight.replace("_quantized", "_scale")]
        if node.op_type == "DynamicQuantizeLSTM":
            for weight, scale in ((node.input[1], node.input[8]), (node.input[2], node.input[10])):
                found[weight] = tensors[weight].astype(np.float32) * tensors[scale].reshape(-1, 1, 1)
    return found


def sorted_values(matrices: list[np.ndarray]) -> list[list[float]]:
    return sorted(np.sort(matrix.ravel() + 0.0).tolist() for matrix in matrices)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LSTMStudent", "TDNNStudent", "WhisperStudent"])
def test_weights_are_those_that_training_computed_with(name: str, tmp_path: Path) -> None:
    model = model_of(name, tmp_path, int8=True)
    network: nn.Module = model.network  # type: ignore[assignment]
    export_onnx(model, tmp_path / "out", types=["float32", "int8"])
    write_int8(tmp_path / "out/stream.onnx", tmp_path / "out/default.onnx")
    graph = StreamGraph(network)
    features = torch.randn(3, 2 * network.chunk_frames, FRONT_END.feature_dim)
    if network.chunk_frames > 1:
        features = features[:, : network.chunk_frames]
    fed = (features, *network.initial_state(3))
    with torch.no_grad(), rounded_weights(network):
        trained = [parameter.numpy().copy() for parameter in quantized_parameters(network)]
        expected = network.stream(features, network.initial_state(3))[0].numpy()
    for file in ("model.int8.onnx", "stream.int8.onnx"):
        assert sorted_values(list(weights_of(tmp_path / "out" / file).values())) == sorted_values(trained)
    own, default = (
        np.abs(run_graph(tmp_path / "out" / file, fed, graph.inputs)[0] - expected).mean()
        for file in ("stream.int8.onnx", "default.onnx")
    )
    assert own < default


def test_training_says_so_in_the_checkpoint(tmp_path: Path) -> None:
    model = model_of("TDNNStudent", tmp_path, int8=True)
    matrices = trained_matrices(model, reduce_range=False)
    assert matrices is not None and len(matrices) == 8
    assert trained_matrices(model, reduce_range=True) is None
    assert trained_matrices(model_of("TDNNStudent", tmp_path, int8=False), reduce_range=False) is None
