"""`asrkd export onnx`: a model as graphs for onnxruntime, of whole utterances and of chunks, in three types."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asrkd import files
from asrkd.acoustic import AcousticModel
from asrkd.acoustic.description import description_of, description_path
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError, ModelError
from asrkd.export.card import config_of, model_card
from asrkd.export.graphs import StreamGraph, UtteranceGraph
from asrkd.export.onnx_file import (
    Graph,
    Inputs,
    import_onnx,
    open_session,
    run_graph,
    write_float16,
    write_graph,
)
from asrkd.export.onnx_int8 import write_int8
from asrkd.models import quantized_parameters, stream_layout
from asrkd.models.streaming import StreamLayout
from asrkd.store.card import CardFacts
from asrkd.training.config import TrainConfig

TYPES = ("float32", "float16", "int8")
# Frames of a chunk where any number will do: about a third of a second at 40 ms.
CHUNK_FRAMES = 8
_SECONDS = 20.0


@dataclass(frozen=True)
class Written:
    """A graph that was written.

    Attributes:
        name: of its file.
        num_bytes: of the file.
        difference: the largest from the model's logits, on random features.
        rtfx: seconds of audio a second of computation, on one thread.
    """

    name: str
    num_bytes: int
    difference: float
    rtfx: float


def export_onnx(
    model: AcousticModel,
    out: Path,
    *,
    types: Sequence[str] = TYPES,
    reduce_range: bool = False,
    facts: CardFacts | None = None,
    scores: Sequence[Path] = (),
) -> tuple[list[Written], dict[str, str]]:
    """Write the graphs of a model that runs in torch into a new folder.

    `model.onnx`: whole utterances, with `model.onnx.json`, so that `onnx:OUT/model.onnx` is a model of asrkd. `stream.onnx`: chunks with
    their state, where the model streams. `model.int8.onnx` and so on: of other types. Each was compared with the model. `README.md`: a model card.

    Args:
        out: a folder that is not there, or empty.
        types: of `TYPES`.
        reduce_range: see `write_int8`.
        facts, scores: of the card, see `model_card`.

    Returns:
        What was written, and what was not with the reason, by name.

    Raises:
        ConfigError: an unknown type, a folder that is not empty, or a model that does not run in torch on features.
        ModelError: it cannot be written as a graph.
        DependencyError: a package is missing.
    """
    unknown = [name for name in types if name not in TYPES]
    if unknown or not types:
        raise ConfigError(
            f"type {unknown[0] if unknown else ''!r} is not known; give one or more of {', '.join(TYPES)}"
        )
    import_onnx()
    network = torch_network(model)
    card, trained = model_card(model, facts, scores), trained_matrices(model, reduce_range=reduce_range)
    written: list[Written] = []
    missing: dict[str, str] = {}
    with files.new_folder(out) as folder:
        for name, write in (("model", _write_utterance), ("stream", _write_stream)):
            source = folder / f"{name}.float32.onnx"
            try:
                graph, cases, described = write(model, network, source)
            except (ConfigError, ModelError) as error:
                missing[name] = str(error)
                continue
            for kind in types:
                path = folder / (f"{name}.onnx" if kind == types[0] else f"{name}.{kind}.onnx")
                write_as(source, path, kind, reduce_range=reduce_range, trained=trained)
                files.write(description_path(path), json.dumps(described, indent=1, ensure_ascii=False))
                written.append(_measured(path, graph, cases, model))
            source.unlink()
        if not written:
            raise ModelError("; ".join(missing.values()))
        files.write(folder / "README.md", f"{card}{_FILES}" + "".join(f"- {_file_line(one)}\n" for one in written))
    return written, missing


_FILES = """
## Files

`model.onnx`: whole utterances, features (N, T, F) and feature_lengths (N,) to logits and logit_lengths. `stream.onnx`: chunks, features and state_0, state_1, ... to logits and
next_state_0, ...; the state begins with zeros. What a runtime needs besides (front end, units, delay, the state's shapes) is in the JSON next to each, and in its metadata.

"""


def _file_line(one: Written) -> str:
    return f"`{one.name}`: {one.num_bytes / 1e6:.2f} MB; logits within {one.difference:.2g} of the model's"


def torch_network(model: AcousticModel) -> nn.Module:
    """The network of a model that can be exported.

    Raises:
        ConfigError: it is not a module of torch, or reads samples.
    """
    network = model.network
    if not isinstance(network, nn.Module) or isinstance(network, torch.jit.ScriptModule):
        raise ConfigError(
            f"model {model.spec!r} is not a network of torch in Python; export a run of asrkd train (checkpoint:RUN)"
        )
    log_mel_front_end(model)
    if any(type(module).__module__.startswith("torch.ao.") for module in network.modules()):
        raise ConfigError(
            f"model {model.spec!r} has 8-bit weights of torch, which ONNX has not; export the run itself, with --type int8"
        )
    return network


def trained_matrices(model: AcousticModel, *, reduce_range: bool) -> list[Tensor] | None:
    """The matrices that a network has in 8 bits since its training (`model.int8`), by whose scales it is written in int8; None where it was trained without,
    or is to be written in fewer bits."""
    config = config_of(model)
    # Checkpoints of version 0.2.0 do not say so, but the config of their run does.
    trained = model.int8_trained or (isinstance(config, TrainConfig) and config.model.int8)
    return list(quantized_parameters(torch_network(model))) if trained and not reduce_range else None


def write_as(source: Path, path: Path, kind: str, *, reduce_range: bool, trained: Sequence[Tensor] | None) -> None:
    """Copy a float32 graph in one of `TYPES`; `reduce_range` and `trained` as in `write_int8`."""
    if kind == "float32":
        path.write_bytes(source.read_bytes())
    elif kind == "float16":
        write_float16(source, path)
    else:
        write_int8(source, path, reduce_range=reduce_range, trained=trained)


def log_mel_front_end(model: AcousticModel) -> FrontEnd:
    """The front end of a model that reads log-mel.

    Raises:
        ConfigError: it reads samples.
    """
    if not isinstance(model.front_end, FrontEnd):
        raise ConfigError(
            f"model {model.spec!r} reads samples; models that read the features of a front end are exported"
        )
    return model.front_end


def measured_rtfx(path: Path, cases: Inputs, names: Sequence[str], seconds: float) -> float:
    """Seconds of audio a second of computation of one call, the best of some."""
    session = open_session(path)
    known = {one.name for one in session.get_inputs()}
    fed = {name: part.numpy() for name, part in zip(names, cases, strict=True) if name in known}
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        session.run(None, fed)
        best = min(best, time.perf_counter() - began)
    return seconds / best


def stream_facts(model: AcousticModel, layout: StreamLayout) -> dict[str, Any]:
    """What a runtime needs besides the description."""
    return {
        "chunk_frames": layout.chunk_frames,
        "left_padding": layout.left_padding,
        "output_delay": layout.output_delay,
        "state": [{"shape": list(shape), "type": str(kind).removeprefix("torch.")} for shape, kind in layout.state],
    }


def _write_utterance(
    model: AcousticModel, network: nn.Module, path: Path
) -> tuple[Graph, list[Inputs], dict[str, Any]]:
    graph = UtteranceGraph(network)
    width = model.front_end.feature_dim
    lengths = ((40, 23), (57,), (16, 9, 31))
    cases: list[Inputs] = [(_features(len(own), max(own), width), torch.tensor(own)) for own in lengths]
    axes = {name: {0: "batch"} for name in (*graph.inputs, *graph.outputs)}
    axes["features"][1], axes["logits"][1] = "frames", "output_frames"
    facts = description_of(model)
    write_graph(graph, path, cases, axes, _metadata(facts), only_tracing=True)
    return graph, cases, facts


def _write_stream(model: AcousticModel, network: nn.Module, path: Path) -> tuple[Graph, list[Inputs], dict[str, Any]]:
    layout = stream_layout(network, "be exported as a stream")
    graph = StreamGraph(network)
    width = model.front_end.feature_dim
    any_length = layout.chunk_frames == 1
    frames = (CHUNK_FRAMES, 5, 1) if any_length else (layout.chunk_frames,) * 3
    cases = [
        (_features(n, count, width), *_random_state(layout, n)) for n, count in zip((2, 1, 3), frames, strict=True)
    ]
    axes = {name: {0: "batch"} for name in (*graph.inputs, *graph.outputs)}
    if any_length:
        axes["features"][1], axes["logits"][1] = "frames", "output_frames"
    facts = description_of(model) | {"stream": stream_facts(model, layout)}
    write_graph(graph, path, cases, axes, _metadata(facts))
    return graph, cases, facts


def _measured(path: Path, graph: Graph, cases: Sequence[Inputs], model: AcousticModel) -> Written:
    with torch.no_grad():
        expected = graph(*cases[0])[0]
    found = torch.from_numpy(run_graph(path, cases[0], graph.inputs)[0])
    law = model.front_end.frame_law()
    frame_seconds = law.shift * law.stride / model.front_end.sampling_rate
    if isinstance(graph, UtteranceGraph):
        count = int(_SECONDS / frame_seconds)
        inputs: Inputs = (_features(1, count, model.front_end.feature_dim), torch.tensor([count]))
    else:
        inputs = tuple(part[:1] for part in cases[0])
        count = inputs[0].shape[1]
    rtfx = measured_rtfx(path, inputs, graph.inputs, count * frame_seconds)
    return Written(path.name, path.stat().st_size, float((expected - found).abs().max()), rtfx)


def _metadata(facts: Mapping[str, Any]) -> dict[str, str]:
    return {"asrkd": json.dumps(facts, ensure_ascii=False)}


def _features(batch_size: int, num_frames: int, width: int) -> Tensor:
    return torch.randn(batch_size, num_frames, width, generator=torch.Generator().manual_seed(num_frames))


def _random_state(layout: StreamLayout, batch_size: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(batch_size)
    state = [torch.randn(batch_size, *shape, generator=generator).to(kind) for shape, kind in layout.state[:-1]]
    # Streams at different places: one at its start, others behind all that is before a start.
    return [*state, torch.arange(batch_size) * 1_000]
