"""Unpacking of stored targets: with the arrays of numpy, which are used on a CPU, against those of torch, which are used on other devices.

    python tools/benchmarks/unpacking.py --utterances 64 --classes 3183

Synthetic posteriors of utterances of 100 to 400 frames whose neighbors share classes. Microseconds of CPU time an utterance (median of
9 in turn), of a batch and of each utterance alone (`Store.targets` of a row): columns of rows to targets, as the loader makes them. With a GPU
also: a batch there, from columns that are there (wall clock).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from unittest import mock

import click
import torch

from asrkd.report.tables import text_table
from asrkd.targets import layouts
from asrkd.targets.arrays import TORCH
from asrkd.targets.codecs import parse_codec
from asrkd.targets.packed import PackedTargets
from asrkd.targets.random import frame_keys
from asrkd.targets.streams import Columns, Layout

CODECS = ("dense", "topk:20", "nucleus:0.95:64", "sampled:22", "hybrid:0:12", "hybrid:4:8")


def with_torch(work: Callable[[], object]) -> Callable[[], object]:
    """The same with torch's arrays, on a CPU too."""

    def changed() -> object:
        with mock.patch.object(layouts, "arrays_for", lambda _: TORCH):
            return work()

    return changed


def medians(count: int, works: Sequence[Callable[[], object]], clock: Callable[[], float]) -> list[float]:
    """Seconds of each piece of work, done in turn."""
    found: list[list[float]] = [[] for _ in works]
    for _ in range(count):
        for work, seconds in zip(works, found, strict=True):
            began = clock()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds.append(clock() - began)
    return [statistics.median(seconds) for seconds in found]


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
        keys = [frame_keys(f"u{number}", "t", len(part), part.device) for number, part in enumerate(parts)]
        rows = [layout.pack(codec.encode(part, key)) for part, key in zip(parts, keys, strict=True)]
        batch, alone = together(layout, rows, lengths), one_by_one(layout, rows, lengths)
        seconds = medians(9, [batch, with_torch(batch), alone, with_torch(alone)], time.process_time)
        if torch.cuda.is_available():
            there = PackedTargets.join(layout, rows, lengths).map(torch.Tensor.cuda)
            seconds += medians(9, [there.unpack], time.perf_counter)
        table.append([spec, *(f"{1e6 * one / utterances:.0f}" for one in seconds)])
    columns = ["codec", "batch: numpy", "torch", "alone: numpy", "torch"] + ["GPU"] * torch.cuda.is_available()
    click.echo(text_table(columns, table))


def together(layout: Layout, rows: Sequence[Columns], lengths: Sequence[int]) -> Callable[[], object]:
    """A batch at once."""
    return lambda: PackedTargets.join(layout, rows, lengths).unpack()


def one_by_one(layout: Layout, rows: Sequence[Columns], lengths: Sequence[int]) -> Callable[[], object]:
    """Each utterance alone."""
    pairs = list(zip(rows, lengths, strict=True))
    return lambda: [PackedTargets.join(layout, [row], [frames]).unpack() for row, frames in pairs]


if __name__ == "__main__":
    main()
