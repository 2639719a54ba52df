"""Speed and memory of `asrkd align` without a model: a flat start on a store, and the same store several times over.

python tools/benchmarks/aligning.py STORE WORKDIR --lexicon FILE
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import torch
from watching import watched

from asrkd.alignment.align_store import align_store
from asrkd.store import Store, manifest
from asrkd.store.files import Files
from asrkd.store.rows import rows_of_table
from asrkd.store.writer import write_shard


def repeated(store: Store, out: str, copies: int) -> float:
    """The store's utterances several times, with other ids; returns hours."""
    seconds, unit = 0.0, 0
    for copy in range(copies):
        for old in store.units():
            groups = range(store.metadata(old).num_row_groups)
            rows = [row for group in groups for row in rows_of_table(store.read_row_group(old, group))]
            seconds += sum(row["duration"] for row in rows)
            write_shard(Files(out), unit, [row | {"id": f"{copy}-{row['id']}"} for row in rows], store.identity)
            unit += 1
    manifest.create(Files(out), store.identity, dict(store.plan) | {"num_units": unit})
    return seconds / 3600


@click.command()
@click.argument("store")
@click.argument("workdir", type=click.Path(path_type=Path))
@click.option("--lexicon", required=True)
@click.option("--copies", multiple=True, default=[1, 2, 4], show_default=True, type=int)
def main(store: str, workdir: Path, lexicon: str, copies: tuple[int, ...]) -> None:
    """Seconds of one core for an hour of speech, and memory, for each number of copies."""
    torch.set_num_threads(1)
    for count in copies:
        source, out = str(workdir / f"{count}-copies"), str(workdir / f"{count}-aligned")
        hours = repeated(Store.open(store), source, count)
        began, cpu = time.perf_counter(), time.process_time()
        with watched() as most:
            align_store(Store.open(source), out, lexicon)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - began
        click.echo(
            f"{count} copies, {hours:.2f} h: {cpu:.0f} s of CPU ({cpu / hours:.0f} an hour), {wall:.0f} s, {most[0] / 1e6:.0f} MB at most"
        )


if __name__ == "__main__":
    main()
