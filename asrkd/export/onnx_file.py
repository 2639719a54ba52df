"""Writes a module as an ONNX graph, and lets onnxruntime show that it computes what the module does."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from asrkd.errors import ModelError, one_line
from asrkd.extras import import_optional

# float32 sums in another order; logits are of the size of 10.
TOLERANCE = 1e-4
# Smaller tensors are shapes, norms and biases.
_LARGE = 1024
# A module of `asrkd.export.graphs`: `model`, which it wraps, and the names of its `inputs` and `outputs`.
Graph: TypeAlias = Any
# By axis of each input or output that may be of any size, its name.
Axes = Mapping[str, Mapping[int, str]]
Inputs = tuple[Tensor, ...]


def import_onnx() -> Any:
    """The packages that write and run graphs.

    Raises:
        DependencyError: one is not installed.
    """
    import_optional("onnxruntime", "exporting needs onnxruntime", "export")
    return import_optional("onnx", "exporting needs onnx")


def write_graph(
    graph: Graph,
    path: Path,
    cases: Sequence[Inputs],
    axes: Axes,
    metadata: Mapping[str, str] | None = None,
    *,
    only_tracing: bool = False,
    tolerance: float = TOLERANCE,
) -> float:
    """Write a module with `inputs` and `outputs`, the names of its tensors.

    The first exporter of torch whose graph gives what the module gives is taken: each is wrong for some models.

    Args:
        cases: inputs of different sizes, on which the graph is compared with the module; the first is what it is traced with.
        axes: of the inputs and outputs.
        metadata: of the graph.
        only_tracing: leave out torch.export's, which takes long; it writes chunks of attention, whose masks tracing freezes.
        tolerance: of the outputs.

    Returns:
        The largest difference over the cases.

    Raises:
        DependencyError: the packages are missing.
        ModelError: no exporter of torch can write it, or what they write gives something else.
    """
    onnx = import_onnx()
    told = []
    graph.eval()  # else an exporter leaves its parts as for training
    with torch.no_grad():
        expected = [graph(*inputs) for inputs in cases]
    exporters = (("TorchScript", _by_tracing), ("torch.export", _by_export))
    for name, settings in exporters[:1] if only_tracing else exporters:
        try:
            with quietly(), torch.no_grad():
                torch.onnx.export(
                    graph,
                    cases[0],
                    str(path),
                    input_names=list(graph.inputs),
                    output_names=list(graph.outputs),
                    **settings(graph, axes),
                )
            difference = max(
                _difference(outputs, run_graph(path, inputs, graph.inputs))
                for inputs, outputs in zip(cases, expected, strict=True)
            )
        except OSError:
            raise  # of the disk
        except Exception as error:  # exporters and runtimes raise kinds of their own
            told.append(f"{name}: {one_line(error)[:200]}")
            continue
        if difference <= tolerance:
            if metadata:
                described = onnx.load(str(path))
                add_metadata(described, metadata)
                onnx.save(described, str(path))
            return difference
        told.append(f"{name}: its graph differs from the model by {difference:.3g}")
    path.unlink(missing_ok=True)
    raise ModelError(
        f"{type(graph.model).__name__} cannot be written as an ONNX graph ({'; '.join(told)}); models of asrkd can, an own one "
        "needs operators that ONNX has"
    )


def add_metadata(model: Any, metadata: Mapping[str, str]) -> None:
    """Set the metadata of a loaded graph, in place of what it has."""
    del model.metadata_props[:]
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def run_graph(path: Path, inputs: Inputs, names: Sequence[str]) -> list[np.ndarray]:
    """The outputs of a graph for these inputs, on one thread."""
    session = open_session(path)
    known = {one.name for one in session.get_inputs()}
    # An exporter leaves out an input that nothing reads.
    return session.run(None, {name: part.numpy() for name, part in zip(names, inputs, strict=True) if name in known})


def open_session(path: Path) -> Any:
    """An onnxruntime session on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def write_float16(source: Path, target: Path) -> None:
    """A copy with 16-bit weights: half the size, computed in float32 on every device."""
    onnx = import_onnx()
    model = onnx.load(str(source))
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _LARGE or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.float16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.float16"], [name], to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    onnx.save(model, str(target))


def _by_tracing(graph: Graph, axes: Axes) -> dict[str, Any]:
    return {"dynamo": False, "dynamic_axes": {name: dict(own) for name, own in axes.items()}, "opset_version": 17}


def _by_export(graph: Graph, axes: Axes) -> dict[str, Any]:
    shapes = [dict.fromkeys(axes.get(name, {}), torch.export.Dim.AUTO) for name in graph.inputs]
    by_name: dict[str, Any] = {}
    for number, parameter in enumerate(inspect.signature(graph.forward).parameters.values()):
        rest = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        by_name[parameter.name] = tuple(shapes[number:]) if rest else shapes[number]
    return {"dynamo": True, "dynamic_shapes": by_name, "external_data": False, "verbose": False}


def _difference(expected: Sequence[Tensor], found: Sequence[np.ndarray]) -> float:
    worst = 0.0
    for one, other in zip(expected, found, strict=True):
        if tuple(one.shape) != other.shape:
            return float("inf")
        if one.numel():
            worst = max(worst, float(np.abs(one.numpy().astype(np.float64) - other.astype(np.float64)).max()))
    return worst


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what exporters and quantizers say while they work; what went wrong is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
