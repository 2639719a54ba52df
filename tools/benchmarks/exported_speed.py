"""Size, speed and latency of the graphs of `asrkd export onnx` next to torch, in turns, on one thread.

    python tools/benchmarks/exported_speed.py MODEL [--seconds 10] [--chunk-ms 320]

Each has its turn on the same random features, again and again; medians count, in CPU time of the process, which other work disturbs less than the clock does.

Of a student that was trained in 8 bits there is a further int8 graph, with onnxruntime's scales in place of those of its training.

- whole: an utterance of `--seconds` at a time (`model.onnx`).
- chunk: milliseconds for a chunk with its state carried on (`stream.onnx`), median and 95 % quantile, and RTFx.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch

from asrkd.acoustic import load_model
from asrkd.cli import run_command
from asrkd.export.onnx_export import TYPES, export_onnx, torch_network, trained_matrices
from asrkd.export.onnx_file import open_session
from asrkd.export.onnx_int8 import write_int8
from asrkd.models import stream_layout, to_int8
from asrkd.report.tables import text_table

Call = Callable[[], object]


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.argument("model", metavar="MODEL")
@click.option("--seconds", default=10.0, help="Length of the utterance.")
@click.option("--chunk-ms", default=320.0, help="Length of a chunk.")
@click.option("--turns", default=30, help="How often each has its turn.")
def main(model: str, seconds: float, chunk_ms: float, turns: int) -> None:
    torch.set_num_threads(1)
    acoustic_model = load_model(model)
    network = torch_network(acoustic_model).eval()
    layout = stream_layout(network, "be measured chunk by chunk")
    law = acoustic_model.front_end.frame_law()
    frame = law.shift * law.stride / acoustic_model.front_end.sampling_rate
    rows = max(round(chunk_ms / 1000 / frame) // layout.chunk_frames, 1) * layout.chunk_frames
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(1, int(seconds / frame), acoustic_model.front_end.feature_dim, generator=generator)
    chunk = whole[:, :rows].contiguous()
    whole_calls: dict[str, Call] = {}
    chunk_calls: dict[str, Call] = {}
    sizes = {"torch float32": sum(4 * part.numel() for part in network.parameters())}
    for name, module in (("torch float32", network), ("torch int8", to_int8(network))):
        whole_calls[name] = lambda module=module: module(whole, torch.tensor([whole.shape[1]]))
        chunk_calls[name] = lambda module=module: module.stream(chunk, module.initial_state(1))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        out = Path(folder) / "out"
        export_onnx(acoustic_model, out)
        endings = {kind: "" if kind == TYPES[0] else f".{kind}" for kind in TYPES}
        if trained_matrices(acoustic_model, reduce_range=False) is not None:
            endings["int8, others' scales"] = ".others"
            for name in ("model", "stream"):
                write_int8(out / f"{name}.onnx", out / f"{name}.others.onnx")
        for kind, ending in endings.items():
            session = open_session(out / f"stream{ending}.onnx")
            names = [one.name for one in session.get_inputs()]
            fed = dict(zip(names, [chunk.numpy(), *(part.numpy() for part in network.initial_state(1))], strict=True))
            chunk_calls[f"onnx {kind}"] = lambda session=session, fed=fed: session.run(None, fed)
            sizes[f"onnx {kind}"] = (out / f"stream{ending}.onnx").stat().st_size
            session = open_session(out / f"model{ending}.onnx")
            fed = {"features": whole.numpy(), "feature_lengths": np.array([whole.shape[1]])}
            whole_calls[f"onnx {kind}"] = lambda session=session, fed=fed: session.run(None, fed)
        of_whole, of_chunk = (measured(calls, turns) for calls in (whole_calls, chunk_calls))
    base = np.median(of_whole["torch float32"]), np.median(of_chunk["torch float32"])
    table = []
    for name, times in of_whole.items():
        chunks = of_chunk[name]
        table.append(
            [
                name,
                f"{sizes[name] / 1e6:.2f} MB" if name in sizes else "",
                f"{seconds / np.median(times):,.0f}",
                f"{base[0] / np.median(times):.2f}",
                f"{1000 * np.median(chunks):.2f} ms, {1000 * np.quantile(chunks, 0.95):.2f} ms",
                f"{rows * frame / np.median(chunks):,.0f}",
                f"{base[1] / np.median(chunks):.2f}",
            ]
        )
    click.echo(f"{model}: {seconds:g} s whole, chunks of {1000 * rows * frame:g} ms, {turns} turns, one thread")
    click.echo(
        text_table(["", "size", "whole: RTFx", "of torch", "chunk: median, 95 %", "chunk: RTFx", "of torch"], table)
    )


def measured(calls: dict[str, Call], turns: int) -> dict[str, list[float]]:
    """Seconds of CPU time of each call, in turns; the first of each is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            began = time.process_time()
            call()
            if turn:
                times[name].append(time.process_time() - began)
    return times


if __name__ == "__main__":
    run_command(main)
