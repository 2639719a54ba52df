"""Planning a large corpus: cuts a second and memory, next to a plain loop that only parses the manifest.

    python tools/benchmarks/planning.py --cuts 10000000

Memory is what the process that plans holds for itself (anonymous pages) at its most, and how much of it was there after the imports; pages
of shared libraries (torch's alone are some 300 MB) are not counted, because all processes of a machine share them. The plain loop runs in a
process of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import click
from watching import held, watched

from asrkd.labeling.plan import plan
from asrkd.labeling.status import status
from asrkd.store import Store

CUT = (
    '{{"id": "speaker-{0:04d}-session-{1:08d}", "start": 0, "duration": {2}, "channel": 0, "supervisions": [], "recording": '
    '{{"id": "session-{1:08d}", "sources": [{{"type": "file", "channels": [0], "source": "/corpus/{0:04d}/{1:08d}.flac"}}], '
    '"sampling_rate": 16000, "num_samples": {3}, "duration": {2}, "channel_ids": [0]}}, "type": "MonoCut"}}\n'
)


def write_manifest(path: Path, count: int) -> None:
    """A lhotse manifest of cuts of 2 to 10 s."""
    with open(path, "w") as file:
        for number in range(count):
            samples = 32000 + (number * 7919) % 128000
            file.write(CUT.format(number % 5000, number, samples / 16000, samples))


def parse(manifest: Path) -> tuple[int, float]:
    """Cuts of a manifest, and seconds to parse them all."""
    began = time.perf_counter()
    with open(manifest) as file:
        count = sum(1 for line in file if json.loads(line)["id"])
    return count, time.perf_counter() - began


@click.command(context_settings={"show_default": True})
@click.option("--cuts", "count", default=1_000_000)
@click.option("--unit-hours", default=1.0)
def main(count: int, unit_hours: float) -> None:
    """Print cuts a second and megabytes."""
    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as folder:
        manifest = Path(folder) / "cuts.jsonl"
        write_manifest(manifest, count)
        with multiprocessing.get_context("spawn").Pool(1) as alone:
            ids, loop = alone.apply(parse, (manifest,))
        before = held()
        began = time.perf_counter()
        with watched() as most:
            plan(str(manifest), f"{folder}/store", embed="audio", unit_hours=unit_hours)
        taken = time.perf_counter() - began
        found = status(Store.open(f"{folder}/store"))
    if not found.cuts == ids == count:
        raise RuntimeError(f"{found.cuts} cuts were planned of {count}")
    click.echo(f"{count} cuts, {found.hours:.0f} h, {found.units} units")
    click.echo(f"plain loop of json.loads {count / loop:10.0f} cuts/s")
    click.echo(f"asrkd label plan         {count / taken:10.0f} cuts/s, {loop / taken:.2f} of the loop's")
    click.echo(
        f"memory {most[0] / 1e6:.0f} MB at most, {before / 1e6:.0f} MB before; ids alone as Python strings: {count * 79 / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
