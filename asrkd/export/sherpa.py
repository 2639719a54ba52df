"""`asrkd export sherpa`: a folder that sherpa-onnx runs, opened and tried by sherpa-onnx itself."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asrkd import files
from asrkd.acoustic import AcousticModel
from asrkd.acoustic.description import description_of
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.corpus.topology import BLANK
from asrkd.decoding.decode import BEAM
from asrkd.decoding.units import searchable, spelling_of
from asrkd.errors import ConfigError, ModelError
from asrkd.export.card import model_card
from asrkd.export.graphs import SherpaOffline, SherpaOnline
from asrkd.export.onnx_export import log_mel_front_end, measured_rtfx, stream_facts, torch_network, trained_matrices
from asrkd.export.onnx_file import Inputs, import_onnx, write_graph
from asrkd.export.onnx_int8 import write_int8
from asrkd.export.sherpa_check import Comparison, compare_with_sherpa, import_sherpa
from asrkd.export.sherpa_readme import sherpa_calls
from asrkd.graphs import DecodingGraph, ngram_graph, scaled_costs, word_loop_graph
from asrkd.models import stream_layout
from asrkd.models.streaming import StreamLayout
from asrkd.sequence.grammar import why_no_penalty
from asrkd.store.card import CardFacts

# What sherpa-onnx takes a frame of a CTC model for, in its times and endpoint rules.
SHERPA_FRAME_MS = 40.0
# Of the front end that its C API and mobile bindings can compute; stacking and mean are in the graph.
_FIXED = ("frame_length_ms", "frame_shift_ms", "low_freq", "high_freq", "snip_edges", "full_scale", "filterbank")
# Output frames of a window: a third of a second.
_WINDOW_ROWS = 8
# sherpa-onnx searches with a beam of 16 and has no option for it; all scores and costs times this make it as wide as asrkd's.
_WITHIN_BEAM = 16.0 / BEAM


@dataclass
class SherpaFolder:
    """What was written.

    Attributes:
        out: the folder.
        sizes: bytes of each graph, by file name.
        rtfx: seconds of audio a second of computation on one thread, of the graphs that run chunk by chunk.
        warnings: what a user should know.
        comparison: with asrkd's own search, of each graph; empty without utterances to compare on.
    """

    out: Path
    sizes: dict[str, int] = field(default_factory=dict)
    rtfx: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    comparison: dict[str, Comparison] = field(default_factory=dict)


def sherpa_graph(
    model: AcousticModel,
    tokenizer: Tokenizer | None,
    *,
    grammar: str | None = None,
    insertion_penalty: float = 0.0,
    leave_early: bool = False,
) -> DecodingGraph:
    """The graph that asrkd's search would take, in the form that sherpa-onnx reads: its offline search counts every arc of a path as a frame, and
    loses words that are not on the first frame of a token.

    Raises:
        ConfigError, CorpusError: as `Search`.
    """
    words = searchable(spelling_of(tokenizer, model.inventory), grammar)
    if grammar is None:
        return word_loop_graph(words, model.inventory, insertion_penalty=insertion_penalty, leave_early=leave_early)
    if why := why_no_penalty(grammar, insertion_penalty):
        raise ConfigError(f"insertion_penalty {why}")
    return ngram_graph(words, model.inventory, grammar, leave_early=leave_early, free_arcs=False)


def check_sherpa(model: AcousticModel, graph: DecodingGraph | None) -> StreamLayout:
    """Refuse a model that sherpa-onnx cannot run.

    Raises:
        ConfigError: with what to train instead.
        ModelError: an `hmm` model without priors.
        DependencyError: sherpa-onnx or onnx is missing.
    """
    import_sherpa()
    import_onnx()
    layout = stream_layout(torch_network(model), "be exported for sherpa-onnx, which decodes as one speaks")
    front_end = log_mel_front_end(model)
    reference = FrontEnd.from_dict({"preset": "sherpa"})
    other = [name for name in _FIXED if getattr(front_end, name) != getattr(reference, name)]
    if other:
        told = ", ".join(f"{name} is {getattr(front_end, name)!r}, not {getattr(reference, name)!r}" for name in other)
        raise ConfigError(
            f"model {model.spec!r} has a front end that sherpa-onnx cannot compute ({told}); train a student with `front_end: {{preset: sherpa}}`, to "
            f"which mean_norm: causal may be added"
        )
    if front_end.mean_norm == "utterance":
        raise ConfigError(
            f"model {model.spec!r} subtracts the mean of whole utterances, which a stream does not have; train with mean_norm: causal or none"
        )
    if front_end.stack != front_end.stride:
        raise ConfigError(
            f"model {model.spec!r} joins {front_end.stack} frames every {front_end.stride}, but the graph for sherpa-onnx takes each frame once; train with "
            "stack and stride alike"
        )
    if model.subsampling_factor != 1:
        raise ConfigError(
            f"model {model.spec!r} has an output for every {model.subsampling_factor} frames, but the graph for sherpa-onnx has one for each; train with a "
            "larger stack and stride in place of a model that subsamples"
        )
    model.check_prior()
    if not model.inventory.topology.collapses_repeats and graph is None:
        raise ConfigError(
            f"model {model.spec!r} is of topology {model.inventory.topology_name!r}, whose classes spell nothing without a graph; give --lexicon"
        )
    if graph is not None:
        graph.check(model.inventory)
    spaces = [unit for unit in model.inventory.units if not unit or any(character.isspace() for character in unit)]
    if spaces:
        raise ConfigError(
            f"unit {spaces[0]!r} holds a space, which separates names from numbers in tokens.txt; name the units without spaces"
        )
    return layout


def export_sherpa(
    model: AcousticModel,
    out: Path,
    *,
    graph: DecodingGraph | None = None,
    acoustic_scale: float = 1.0,
    blank_penalty: float = 0.0,
    reduce_range: bool = False,
    facts: CardFacts | None = None,
    scores: Sequence[Path] = (),
    utterances: Iterable[tuple[str, NDArray[np.float32]]] = (),
) -> SherpaFolder:
    """Write a folder for sherpa-onnx: `model.onnx` and `model.int8.onnx` as its online type `zipformer2_ctc` (see `SherpaOnline`);
    `offline.onnx` and `offline.int8.onnx` as its offline type `zipformer_ctc`, where the model has such a graph; `tokens.txt`; with a graph
    `HLG.fst` and `words.txt`; `model.json`; and a README, a model card with the calls.

    Stacking, causal mean, output delay, log-softmax, prior (`hmm`), blank penalty (`ctc`) and scale are inside the graphs.

    Args:
        out: a folder that is not there, or empty.
        graph: of `sherpa_graph`, searched by sherpa-onnx; without one its text is greedy.
        acoustic_scale: of the scores, with a graph.
        blank_penalty: as in `AcousticModel.scores`.
        reduce_range: see `write_int8`.
        facts, scores: of the card, see `model_card`.
        utterances: id and samples; sherpa-onnx and asrkd search them before the folder gets its name.

    Raises:
        ConfigError, ModelError, DependencyError: see `check_sherpa` and `compare_with_sherpa`.
        AsrkdError: `out` is not a new folder, or cannot be written.
    """
    layout = check_sherpa(model, graph)
    found, card = SherpaFolder(out), model_card(model, facts, scores)
    int8: dict[str, Any] = {
        "reduce_range": reduce_range,
        "trained": trained_matrices(model, reduce_range=reduce_range),
    }
    front_end = log_mel_front_end(model)
    frame_ms = front_end.frame_shift_ms * front_end.stride
    if frame_ms != SHERPA_FRAME_MS:
        found.warnings.append(
            f"a frame is {frame_ms:g} ms, but sherpa-onnx counts {SHERPA_FRAME_MS:g} ms: its times are {SHERPA_FRAME_MS / frame_ms:.2f} times too "
            f"long, and its endpoint rules want seconds times {SHERPA_FRAME_MS / frame_ms:.2f}; train with stack and stride 4"
        )
    offset = model.scores_of(torch.zeros(len(model.inventory)), blank_penalty=blank_penalty)
    scaled: dict[str, Any] = {"offset": offset, "scale": 1.0 if graph is None else _WITHIN_BEAM * acoustic_scale}
    with files.new_folder(out) as folder:
        window, shift = _write_online(folder / "model.onnx", model, layout, scaled, found)
        write_int8(folder / "model.onnx", folder / "model.int8.onnx", **int8)
        _write_offline(folder, model, scaled, found, int8)
        names = [BLANK, *model.inventory.units[1:]]
        files.write(folder / "tokens.txt", "".join(f"{name} {number}\n" for number, name in enumerate(names)))
        if graph is not None:
            scaled_costs(graph.fst, _WITHIN_BEAM).write(str(folder / "HLG.fst"))
            files.write(folder / "words.txt", "".join(f"{word} {number}\n" for number, word in enumerate(graph.words)))
        described = description_of(model) | {
            "stream": stream_facts(model, layout),
            "window_frames": window,
            "shift_frames": shift,
            "acoustic_scale": 1.0 if graph is None else acoustic_scale,
            "cost_scale": 1.0 if graph is None else _WITHIN_BEAM,
            "blank_penalty": blank_penalty,
        }
        files.write(folder / "model.json", json.dumps(described, indent=1, ensure_ascii=False))
        offline = (folder / "offline.onnx").is_file()
        calls = sherpa_calls(model, window=window, shift=shift, graph=graph is not None, offline=offline)
        files.write(folder / "README.md", f"{card}\n{calls}")
        heard = iter(utterances)
        if first := next(heard, None):
            found.comparison.update(
                compare_with_sherpa(
                    folder,
                    model,
                    itertools.chain([first], heard),
                    graph=graph,
                    acoustic_scale=acoustic_scale,
                    blank_penalty=blank_penalty,
                )
            )
        found.sizes.update({path.name: path.stat().st_size for path in sorted(folder.glob("*.onnx"))})
    return found


def _write_online(
    path: Path, model: AcousticModel, layout: StreamLayout, scaled: dict[str, Any], found: SherpaFolder
) -> tuple[int, int]:
    """Write the online graph; returns log-mel frames of a window, and from one to the next."""
    front_end = log_mel_front_end(model)
    graph = SherpaOnline(
        torch_network(model),
        rows=-(-_WINDOW_ROWS // layout.chunk_frames) * layout.chunk_frames,
        stack=front_end.stack,
        causal_mean=front_end.mean_norm == "causal",
        num_mels=front_end.num_mels,
        **scaled,
    )
    cases: list[Inputs] = [
        _window(graph, batch, start=start, end=end) for batch, start, end in ((2, 0, 0), (1, 0, 3), (3, graph.rows, 1))
    ]
    metadata: dict[str, object] = {
        "model_type": "zipformer2",
        "version": "1",
        "model_author": "asrkd",
        "comment": "a streaming student; its state is in cached_key_0",
        "T": graph.window,
        "decode_chunk_len": graph.shift,
        **graph.metadata,
        "asrkd": json.dumps(description_of(model), ensure_ascii=False),
    }
    write_graph(graph, path, cases, graph.axes(), {name: str(value) for name, value in metadata.items()})
    seconds = graph.shift * front_end.frame_shift_ms / 1000
    found.rtfx[path.name] = measured_rtfx(path, _window(graph, 1, start=graph.rows), graph.inputs, seconds)
    return graph.window, graph.shift


def _write_offline(
    folder: Path, model: AcousticModel, scaled: dict[str, Any], found: SherpaFolder, int8: dict[str, Any]
) -> None:
    front_end = log_mel_front_end(model)
    graph = SherpaOffline(
        torch_network(model), stack=front_end.stack, causal_mean=front_end.mean_norm == "causal", **scaled
    )
    cases: list[Inputs] = []
    for lengths in ((101, 64), (160,), (47, 12, 90)):
        frames = torch.randn(len(lengths), max(lengths), front_end.num_mels, generator=torch.Generator().manual_seed(7))
        cases.append((frames, torch.tensor(lengths)))
    axes = {name: {0: "batch"} for name in (*graph.inputs, *graph.outputs)}
    axes["x"][1], axes["log_probs"][1] = "frames", "output_frames"
    metadata = {
        "model_type": "zipformer_ctc",
        "version": "1",
        "model_author": "asrkd",
        "asrkd": json.dumps(description_of(model), ensure_ascii=False),
    }
    path = folder / "offline.onnx"
    try:
        write_graph(graph, path, cases, axes, metadata, only_tracing=True)
    except ModelError as error:
        found.warnings.append(f"no offline graph: {error}")
        return
    write_int8(path, folder / "offline.int8.onnx", **int8)


def _window(graph: SherpaOnline, batch_size: int, *, start: int, end: int = 0) -> Inputs:
    """Random inputs of streams that have given `start` outputs, the first of which ends `end` frames before the window does."""
    generator = torch.Generator().manual_seed(batch_size)
    frames = torch.randn(batch_size, graph.window, graph.num_mels, generator=generator)
    frames[0, graph.window - end * graph.stack :] = math.log(torch.finfo(torch.float32).eps)
    key, *others, position = graph.initial_caches(batch_size)
    if start:
        key = torch.randn(key.shape, generator=generator)
    return frames, key, *others, position + start
