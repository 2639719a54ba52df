"""`asrkd export executorch`: a streaming student as a program for ExecuTorch, a chunk at a time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asrkd import files
from asrkd.acoustic import AcousticModel
from asrkd.acoustic.description import description_of, description_path
from asrkd.errors import ConfigError, DependencyError, ModelError, one_line
from asrkd.export.card import model_card
from asrkd.export.graphs import StreamGraph
from asrkd.export.onnx_export import CHUNK_FRAMES, stream_facts, torch_network
from asrkd.export.onnx_file import TOLERANCE, Inputs, quietly
from asrkd.extras import import_optional
from asrkd.models import stream_layout
from asrkd.store.card import CardFacts

PROGRAM = "stream.pte"
_CHUNKS = 5


@dataclass(frozen=True)
class Program:
    """What was written.

    Attributes:
        num_bytes: of the program.
        chunk_frames: input frames that it reads at a time.
        difference: the largest of its logits from the model's, over chunks with carried state.
        rtfx: seconds of audio a second of computation.
        backend: what computes the layers: `XNNPACK`, or `portable` for ExecuTorch's own kernels.
        passed_over: why it is not XNNPACK; empty where it is.
    """

    num_bytes: int
    chunk_frames: int
    difference: float
    rtfx: float
    backend: str
    passed_over: str = ""


def export_executorch(
    model: AcousticModel,
    out: Path,
    *,
    chunk_frames: int | None = None,
    facts: CardFacts | None = None,
    scores: Sequence[Path] = (),
) -> Program:
    """Write a new folder: `stream.pte`, one stream of features (1, C, F) and its state to logits and the next state, as `StreamingModel.stream`;
    `stream.pte.json`, what a runtime needs besides; `README.md`, a model card. The program is run by ExecuTorch and compared with the model.

    Args:
        out: a folder that is not there, or empty.
        chunk_frames: C, a multiple of the model's own; by default about a third of a second.
        facts, scores: of the card, see `model_card`.

    Raises:
        ConfigError: a model that does not stream, or a chunk that it cannot read.
        ModelError: ExecuTorch cannot run the model, or computes something else.
        DependencyError: executorch is not installed, or is not for this torch.
        AsrkdError: `out` is not a new folder, or cannot be written.
    """
    network = torch_network(model)
    layout = stream_layout(network, "be exported for ExecuTorch, which reads chunks")
    least = layout.chunk_frames
    frames = -(-CHUNK_FRAMES // least) * least if chunk_frames is None else chunk_frames
    if frames < 1 or frames % least:
        raise ConfigError(
            f"chunk_frames is {frames}, but the model reads a multiple of {least} frame{'s' if least > 1 else ''} at a time; give such a number"
        )
    card = model_card(model, facts, scores)
    graph = StreamGraph(network).eval()
    described = description_of(model) | {"stream": stream_facts(model, layout) | {"chunk_frames": frames}}
    with files.new_folder(out) as folder:
        path = folder / PROGRAM
        files.write(description_path(path), json.dumps(described, indent=1, ensure_ascii=False))
        law = model.front_end.frame_law()
        seconds = frames * law.shift * law.stride / model.front_end.sampling_rate
        program = _write(graph, path, _chunks(graph, frames, model.front_end.feature_dim), seconds)
        files.write(folder / "README.md", f"{card}{_CALLS.format(frames=frames, width=model.front_end.feature_dim)}")
    return program


_CALLS = """
## In ExecuTorch

`stream.pte` reads one stream: features (1, {frames}, {width}) and the tensors of the state to logits and the next state; the state begins with zeros. What a runtime needs besides
(front end, units, delay, the state's shapes) is in `stream.pte.json`. In Python:

```python
import json, torch
from executorch.runtime import Runtime

stream = json.load(open("stream.pte.json"))["stream"]
state = [torch.zeros(1, *part["shape"], dtype=getattr(torch, part["type"])) for part in stream["state"]]
method = Runtime.get().load_program("stream.pte").load_method("forward")
logits, *state = (part.clone() for part in method.execute([features, *state]))  # the next call writes over what it returns
```
"""


def _write(graph: StreamGraph, path: Path, chunks: Sequence[Tensor], seconds: float) -> Program:
    """The first program of XNNPACK's and ExecuTorch's own kernels that gives what the module gives."""
    need = "exporting for ExecuTorch needs executorch"
    exir = import_optional("executorch.exir", need, "executorch")
    partitioners = import_optional("executorch.backends.xnnpack.partition.xnnpack_partitioner", need, "executorch")
    runtime = import_optional("executorch.runtime", need, "executorch").Runtime.get()
    state = graph.model.initial_state(1)
    told = []
    for backend, parts in (("XNNPACK", [partitioners.XnnpackPartitioner()]), ("portable", [])):
        try:
            with quietly(), torch.no_grad(), _compiler():
                exported = torch.export.export(graph, (chunks[0], *state), strict=False)
                lowered = exir.to_edge_transform_and_lower(exported, partitioner=parts).to_executorch()
        except OSError:
            raise  # of the disk
        except Exception as error:  # a compiler raises any kind
            told.append(f"{backend}: {one_line(error)[:200]}")
            continue
        files.write(path, bytes(lowered.buffer))
        difference, rtfx = _tried(runtime.load_program(path).load_method("forward"), graph, chunks, state, seconds)
        if difference <= TOLERANCE:
            return Program(path.stat().st_size, chunks[0].shape[1], difference, rtfx, backend, "; ".join(told))
        told.append(f"{backend}: its program differs from the model by {difference:.3g}")
    raise ModelError(
        f"{type(graph.model).__name__} cannot be written as a program of ExecuTorch ({'; '.join(told)}); export a TDNNStudent, or take asrkd export onnx"
    )


def _tried(
    method: Any, graph: StreamGraph, chunks: Sequence[Tensor], state: Inputs, seconds: float
) -> tuple[float, float]:
    """The largest difference from the module over the chunks, and seconds of audio a second of computation."""
    carried, difference, best = list(state), 0.0, float("inf")
    for chunk in chunks:
        began = time.perf_counter()
        try:
            found = method.execute([chunk, *carried])
        except RuntimeError as error:
            raise DependencyError(
                f"ExecuTorch cannot run what it wrote ({one_line(error)[:120]}); its version is for another torch than {torch.__version__}: pip install "
                "'asrkd[executorch]'"
            ) from None
        best = min(best, time.perf_counter() - began)
        # The next call writes over them.
        logits, *carried = (part.clone() for part in found)
        with torch.no_grad():
            expected, *state = graph(chunk, *state)  # type: ignore[assignment]
        for one, other in zip((expected, *state), (logits, *carried), strict=True):
            difference = max(difference, float((one.double() - other.double()).abs().max()) if one.numel() else 0.0)
    return difference, seconds / best


def _chunks(graph: StreamGraph, frames: int, width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, frames, width, generator=generator) for _ in range(_CHUNKS)]


@contextmanager
def _compiler() -> Iterator[None]:
    """ExecuTorch looks for its schema compiler on the path, where an environment that is not activated has it not."""
    name = "FLATC_EXECUTABLE"
    own = Path(import_optional("executorch.data.bin").__file__).parent / "flatc"
    if name in os.environ or not own.is_file():
        yield
        return
    os.environ[name] = str(own)
    try:
        yield
    finally:
        del os.environ[name]
