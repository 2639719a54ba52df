"""Unpacking of stored targets: numpy, which unpacks on a CPU, against torch, which unpacks on other devices.

    python tools/benchmarks/unpacking.py --utterances 64 --classes 3183

Synthetic posteriors of utterances of 100 to 400 frames whose neighbors share classes. Thousands of frames a second, best of 7: to join
the columns of the utterances (both ways need it), to unpack joined columns in each way on one core, and with torch on a GPU if there
is one, from columns that are there. The whole: columns of rows to targets, as the loader makes them of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import torch

from asrkd.report.tables import text_table
from asrkd.targets import device, packing
from asrkd.targets.codecs import parse_codec
from asrkd.targets.layouts import Bytes
from asrkd.targets.packed import PackedTargets, pack
from asrkd.targets.random import frame_keys

CODECS = ("topk:20", "nucleus:0.95:64", "sampled:22", "hybrid:0:12", "hybrid:4:8")


def best_of(count: int, work: Callable[[], object]) -> float:
    """Seconds."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return min(found)


@click.command(context_settings={"show_default": True})
@click.option("--utterances", default=64)
@click.option("--classes", default=3183)
@click.option("--codec", "codecs", multiple=True, default=CODECS)
def main(utterances: int, classes: int, codecs: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(100, 400, (utterances,), generator=generator).tolist()
    parts = []
    for frames in lengths:
        phones = torch.randn(frames // 5 + 1, classes, generator=generator).repeat_interleave(5, 0)[:frames]
        parts.append((2.4 * phones + 0.6 * torch.randn(frames, classes, generator=generator)).log_softmax(1))
    table = []
    for spec in codecs:
        codec = parse_codec(spec)
        layout = codec.layout(classes)
        if not isinstance(layout, Bytes):
            raise click.UsageError(f"codec {spec!r} has nothing to unpack")
        bytes_layout = layout.layout
        keys = [frame_keys(f"u{number}", "t", len(part), part.device) for number, part in enumerate(parts)]
        rows = [pack(codec, codec.encode(part, key)) for part, key in zip(parts, keys, strict=True)]
        packed = PackedTargets.join(codec, rows, lengths, classes)
        seconds = [
            best_of(7, lambda rows=rows, codec=codec: PackedTargets.join(codec, rows, lengths, classes)),  # type: ignore[misc]
            *(
                best_of(7, lambda way=way, p=packed, b=bytes_layout: way(p.columns, p.lengths, b))  # type: ignore[misc]
                for way in (packing.unpack_columns, device.unpack_on_device)
            ),
            best_of(7, lambda rows=rows, codec=codec: PackedTargets.join(codec, rows, lengths, classes).unpack()),  # type: ignore[misc]
        ]
        if torch.cuda.is_available():
            there = packed.map(torch.Tensor.cuda)
            seconds.append(best_of(7, there.unpack))
        table.append([spec, *(f"{sum(lengths) / one / 1e3:.0f}" for one in seconds)])
    columns = ["codec", "join", "numpy", "torch", "whole"] + ["GPU"] * torch.cuda.is_available()
    click.echo(text_table(columns, table))


if __name__ == "__main__":
    main()
