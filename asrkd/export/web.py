"""`asrkd export web`: a static page in which a student listens to the microphone, by onnxruntime-web."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asrkd import files
from asrkd.acoustic import AcousticModel
from asrkd.acoustic.description import description_of
from asrkd.corpus.characters import BOUNDARIES
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.token_table import SPECIAL
from asrkd.corpus.tokenizer import Tokenizer, decode_names, units_are_no_text
from asrkd.decoding.live import EndpointRules
from asrkd.decoding.units import spelling_of
from asrkd.errors import ConfigError, DependencyError, ModelError
from asrkd.export.card import model_card, name_of
from asrkd.export.onnx_export import TYPES, log_mel_front_end, torch_network, trained_matrices, write_as
from asrkd.export.onnx_file import Inputs, import_onnx, run_graph, write_graph
from asrkd.export.samples_graph import SamplesGraph
from asrkd.models import stream_layout
from asrkd.store.card import CardFacts

# Of npm, with the hash of its tarball.
RUNTIME = "onnxruntime-web@1.30.0"
_RUNTIME_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# What the page loads of it, and how it is called there.
_WASM = "ort-wasm-simd-threaded.wasm"
_MODULES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs")
_PAGE = ("index.html", "app.js", "recognizer.js", "recorder.js")
# Audio that the graph is given at a time.
_STEP_SECONDS = 0.08
# Of logits: the logarithm of small energies is in front of the model.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class WebPage:
    """What was written.

    Attributes:
        out: the folder.
        num_bytes: that a browser loads.
        difference: the largest of the graph's logits from the model's, on random samples.
    """

    out: Path
    num_bytes: int
    difference: float


def export_web(
    model: AcousticModel,
    out: Path,
    *,
    kind: str = TYPES[0],
    runtime: Path | None = None,
    blank_penalty: float = 0.0,
    reduce_range: bool = False,
    facts: CardFacts | None = None,
    scores: Sequence[Path] = (),
) -> WebPage:
    """Write a folder that any static server serves: a page, the student as one graph from samples to logits, and onnxruntime-web; `README.md`: a model card.

    Args:
        out: a folder that is not there, or empty.
        kind: type of the weights, one of `TYPES`.
        runtime: the tarball of `RUNTIME`; by default npm fetches it.
        blank_penalty: as in `AcousticModel.scores`.
        reduce_range: see `write_int8`.
        facts, scores: of the card, see `model_card`; the name is on the page, too.

    Raises:
        ConfigError: a model whose text is not greedy CTC, that does not stream, or whose front end cannot be in the graph.
        DependencyError: onnx or npm is missing.
        ModelError: the model cannot be written as a graph.
        AsrkdError: `out` is not a new folder, or cannot be written; the runtime cannot be fetched, or is another one.
    """
    if kind not in TYPES:
        raise ConfigError(f"type {kind!r} is not known; give one of {', '.join(TYPES)}")
    import_onnx()
    model.check_blank_penalty(blank_penalty)
    pieces, separator = _written(model)
    graph, for_page = _graph(model)
    card = model_card(model, facts, scores)
    for_page |= {
        "name": facts.name if facts else name_of(model),
        "pieces": pieces,
        "separator": separator,
        "blank_penalty": blank_penalty,
        "end_silence": EndpointRules.silence_after_words,
        "longest": EndpointRules.longest,
        "model": description_of(model),
    }
    with tempfile.TemporaryDirectory() as fetched, files.new_folder(out) as folder:
        tarball = runtime or _fetch(Path(fetched))
        trained = trained_matrices(model, reduce_range=reduce_range)
        int8: dict[str, Any] = {"reduce_range": reduce_range, "trained": trained}
        difference = _write_student(graph, for_page, folder / "student.onnx", kind, int8)
        files.write(folder / "student.json", json.dumps(for_page, ensure_ascii=False))
        for page in _PAGE:
            files.write(folder / page, resources("asrkd.export").joinpath("page", page).read_bytes())
        _copy_runtime(tarball, folder)
        num_bytes = sum(path.stat().st_size for path in folder.iterdir())
        files.write(folder / "README.md", f"{card}{_PAGE_README}")
    return WebPage(out, num_bytes, difference)


_PAGE_README = f"""
## In the browser

Serve this folder with any static server and open it, for example with

```sh
python -m http.server 8000 --bind 127.0.0.1
```

at http://127.0.0.1:8000/. Browsers give the microphone to pages of https:// and localhost alone. No audio leaves the browser.

`student.onnx` takes samples and holds the front end and the state; `student.json` says what the page knows of it. Runtime: {RUNTIME}
(MIT License, Copyright (c) Microsoft Corporation), unchanged but for gzip.
"""


def _graph(model: AcousticModel) -> tuple[SamplesGraph, dict[str, Any]]:
    """The graph, and what the page has to know of it."""
    network = torch_network(model)
    stream_layout(network, "be exported as a page, which decodes as one speaks")
    if model.subsampling_factor != 1:
        raise ConfigError(
            f"model {model.spec!r} has an output for every {model.subsampling_factor} frames, but the page expects one for each; train with a "
            "larger stack and stride in place of a model that subsamples"
        )
    front_end = log_mel_front_end(model)
    graph = SamplesGraph(network, front_end)
    law = front_end.frame_law()
    chunk_seconds = graph.samples_per_chunk / front_end.sampling_rate
    state = zip(graph.inputs[2:], graph.initial_state(1), strict=True)
    return graph, {
        "sampling_rate": front_end.sampling_rate,
        "window": law.window,
        "shift": law.shift,
        "begin": law.begin,
        "needed": law.needed,
        "stack": law.stack,
        "frame_shift": law.frame_shift,
        "samples_per_step": graph.samples_per_chunk * max(1, round(_STEP_SECONDS / chunk_seconds)),
        "output_delay": graph.model.output_delay,
        "num_classes": len(model.inventory),
        "state": [
            {"name": own, "shape": list(part.shape[1:]), "type": str(part.dtype).removeprefix("torch.")}
            for own, part in state
        ],
    }


def _written(model: AcousticModel) -> tuple[list[str], str]:
    """How each unit is written, and what separates two of them: text is those joined, with single spaces."""
    inventory = model.inventory
    if not inventory.topology.collapses_repeats:
        raise ConfigError(
            f"model {model.spec!r} is of topology {inventory.topology_name!r}, whose classes spell nothing without a graph, which the page has not; "
            "train a `ctc` student, or take asrkd export sherpa"
        )
    tokenizer = spelling_of(model.tokenizer if model.tokenizer and model.tokenizer.words is None else None, inventory)
    separator = " " if units_are_no_text(tokenizer) else ""
    pieces = ["", *(_shown(unit) if not separator else unit for unit in inventory.units[1:])]
    _check_written(tokenizer, inventory, pieces, separator)
    return pieces, separator


def _shown(unit: str) -> str:
    if unit in SPECIAL:
        return ""
    for boundary in BOUNDARIES:
        unit = unit.replace(boundary, " ")
    return unit


def _check_written(tokenizer: Tokenizer, inventory: Inventory, pieces: Sequence[str], separator: str) -> None:
    """Raise `ConfigError` unless the tokenizer's text of any units is what the page writes."""
    rng = np.random.default_rng(0)
    count = len(pieces)
    if count < 2:
        return
    for units in [*([n] for n in range(1, count)), *rng.integers(1, count, (200, 12)).tolist()]:
        expected = decode_names(tokenizer, [inventory.units[unit] for unit in units])
        found = " ".join(word for word in separator.join(pieces[unit] for unit in units).split(" ") if word)
        if found != expected:
            raise ConfigError(
                f"the model's units are written {expected!r} by its tokenizer, but joined they are {found!r}, as the page would show them; the page needs "
                "characters, pieces of words or names of units (byte pieces of SentencePiece are none)"
            )


def _write_student(graph: SamplesGraph, facts: dict[str, Any], path: Path, kind: str, int8: dict[str, Any]) -> float:
    any_length = graph.model.chunk_frames == 1
    steps = (4, 1, 7) if any_length else (1, 1, 1)
    cases = [_chunk(graph, batch, count) for batch, count in zip((2, 1, 3), steps, strict=True)]
    axes = {name: {0: "batch"} for name in (*graph.inputs, *graph.outputs)}
    if any_length:
        axes["samples"][1], axes["real"][1], axes["logits"][1] = "samples", "frames", "frames"
    source = path.with_suffix(".float32.onnx")
    difference = write_graph(
        graph, source, cases, axes, {"asrkd": json.dumps(facts["model"], ensure_ascii=False)}, tolerance=_TOLERANCE
    )
    write_as(source, path, kind, **int8)
    source.unlink()
    if kind == "float32":
        return difference
    with torch.no_grad():
        expected = graph(*cases[0])[0].numpy()
    return float(np.abs(expected - run_graph(path, cases[0], graph.inputs)[0]).max())


def _chunk(graph: SamplesGraph, batch_size: int, steps: int) -> Inputs:
    generator = torch.Generator().manual_seed(steps)

    def noise(*shape: int) -> Tensor:
        return 0.1 * torch.randn(*shape, generator=generator)

    rows = steps * graph.samples_per_chunk // graph.frame_shift
    state = [
        part if part.dtype == torch.int64 else part + noise(*part.shape) for part in graph.initial_state(batch_size)
    ]
    return noise(batch_size, steps * graph.samples_per_chunk), torch.ones(batch_size, rows), *state


def _fetch(folder: Path) -> Path:
    """The tarball of the runtime, by npm from where the user's npm gets its packages."""
    npm = shutil.which("npm")
    missing = f"the page needs {RUNTIME}: install Node.js with npm, which fetches it, or fetch it elsewhere (npm pack {RUNTIME}) and give --runtime FILE"
    if npm is None:
        raise DependencyError(missing)
    try:
        run = subprocess.run(
            [npm, "pack", RUNTIME, "--silent"], cwd=folder, capture_output=True, text=True, timeout=600
        )
    except subprocess.TimeoutExpired:
        raise DependencyError(f"npm did not fetch {RUNTIME} within 10 minutes; {missing}") from None
    found = sorted(folder.glob("*.tgz"))
    if run.returncode or not found:
        why = " ".join((run.stderr or run.stdout).split())[-300:] or f"exit code {run.returncode}"
        raise DependencyError(f"npm cannot fetch {RUNTIME} ({why}); {missing}")
    return found[0]


def _copy_runtime(tarball: Path, folder: Path) -> None:
    """What the page loads, from the tarball of npm, whose hash is known."""
    try:
        content = tarball.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the runtime {str(tarball)!r} cannot be read: {error.strerror or error}; correct the path"
        ) from None
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != _RUNTIME_SHA512:
        raise ConfigError(
            f"{str(tarball)!r} is not the tarball of {RUNTIME} (its SHA-512 is {found}), for which the page was written; fetch that one: npm pack {RUNTIME}"
        )
    with tarfile.open(tarball) as archive:

        def member(name: str) -> bytes:
            opened = archive.extractfile(f"package/{name}")
            if opened is None:
                raise ModelError(f"{RUNTIME} has no file {name!r}")
            return opened.read()

        for name in _MODULES:
            files.write(folder / name, member(f"dist/{name}"))
        # Static servers seldom compress; this is a quarter of the size.
        files.write(folder / f"{_WASM}.gz", gzip.compress(member(f"dist/{_WASM}"), mtime=0))
