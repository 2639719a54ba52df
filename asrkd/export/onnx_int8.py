"""8-bit weights in an ONNX graph, by onnxruntime's dynamic quantization."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asrkd.errors import ModelError
from asrkd.export.onnx_file import add_metadata, import_onnx, quietly
from asrkd.models.int8 import rounded, scale_of

# Operators with weights that onnxruntime has in 8 bits.
_QUANTIZED = ["MatMul", "Gemm", "LSTM"]
# Bytes; smaller tensors are shapes, norms and biases.
_LARGE = 1024


def write_int8(
    source: Path, target: Path, *, reduce_range: bool = False, trained: Sequence[Tensor] | None = None
) -> None:
    """A copy with 8-bit weights and activations that are quantized as they come (onnxruntime's dynamic quantization), LSTMs too.

    Args:
        reduce_range: 7 bits, for CPUs without VNNI, where sums of 8-bit products overflow.
        trained: the matrices that training rounded to 8 bits. In the copy they have its scales, and so its values; others stay as they are. None: all
            have scales of onnxruntime, one for each channel. Not with `reduce_range`.

    Raises:
        ModelError: a trained matrix is not in the graph.
    """
    onnx = import_onnx()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    metadata = {entry.key: entry.value for entry in onnx.load(str(source)).metadata_props}
    # Weights that are still transposed at run time would stay as they are.
    folded = target.with_suffix(".folded.onnx")
    _fold_constants(source, folded)
    _copy_shared_weights(folded)
    settings: dict[str, Any] = {"per_channel": True, "reduce_range": reduce_range}
    if trained is not None:
        scales, others = _round_as_trained(folded, trained)
        settings = {"nodes_to_exclude": others, "extra_options": {"TensorQuantOverrides": scales}}
    with quietly():
        quantize_dynamic(
            str(folded), str(target), op_types_to_quantize=_QUANTIZED, weight_type=QuantType.QInt8, **settings
        )
    folded.unlink()
    model = onnx.load(str(target))
    _share_equal_weights(model.graph)
    add_metadata(model, metadata)
    onnx.save(model, str(target))


def _round_as_trained(path: Path, trained: Sequence[Tensor]) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Round a graph's weights as training did.

    Returns:
        onnxruntime's settings of the scales, by weight; and the nodes whose weights training did not round.

    Raises:
        ModelError: a trained matrix is not in the graph.
    """
    onnx = import_onnx()
    model = onnx.load(str(path))
    waiting = {_key(matrix) for matrix in trained}
    known = frozenset(waiting)
    scales: dict[str, list[dict[str, Any]]] = {}
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim not in (2, 3):
            continue
        # The matrices of an LSTM are joined by direction.
        matrices = torch.from_numpy(values.copy()).reshape(-1, *values.shape[-2:])
        keys = {_key(matrix) for matrix in matrices}
        if not keys <= known:
            continue
        waiting -= keys
        joined = {"axis": 0} if values.ndim == 3 else {}
        scales[tensor.name] = [
            {**joined, "scale": np.float32(scale_of(matrix)), "zero_point": 0} for matrix in matrices
        ]
        on_grid = torch.stack([rounded(matrix) for matrix in matrices]).reshape(values.shape)
        tensor.CopyFrom(onnx.numpy_helper.from_array(on_grid.numpy(), tensor.name))
    if waiting:
        raise ModelError(
            f"{len(waiting)} of the {len(known)} matrices that training rounded to 8 bits are not in the graph as they are, so it cannot be written with their "
            "scales; leave out --type int8"
        )
    others = []
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
        if node.op_type in _QUANTIZED and not {*node.input[1 : 2 + (node.op_type == "LSTM")]} <= scales.keys():
            others.append(node.name)
    onnx.save(model, str(path))
    return scales, others


def _key(matrix: Tensor) -> bytes:
    """Of a matrix in whatever order a graph has its rows and columns."""
    # Zeros have one sign.
    return hashlib.sha256(np.sort(matrix.detach().cpu().numpy().ravel() + 0.0).tobytes()).digest()


def _copy_shared_weights(path: Path) -> None:
    """Give each LSTM weights of its own, because onnxruntime's quantizer breaks those of the first for the second."""
    onnx = import_onnx()
    model = onnx.load(str(path))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    seen: set[str] = set()
    for node in model.graph.node:
        if node.op_type != "LSTM":
            continue
        for place in (1, 2):
            name = node.input[place]
            if name in seen and name in weights:
                copied = model.graph.initializer.add()
                copied.CopyFrom(weights[name])
                copied.name = node.input[place] = f"{name}.{len(seen)}"
            seen.add(node.input[place])
    onnx.save(model, str(path))


def _share_equal_weights(graph: Any) -> None:
    """Keep one of each large tensor that a graph holds several times."""
    kept: dict[tuple[Any, ...], str] = {}
    renamed: dict[str, str] = {}
    for tensor in list(graph.initializer):
        if len(tensor.raw_data) < _LARGE:
            continue
        key = (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
        if key in kept:
            renamed[tensor.name] = kept[key]
            graph.initializer.remove(tensor)
        else:
            kept[key] = tensor.name
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)


def _fold_constants(source: Path, target: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
