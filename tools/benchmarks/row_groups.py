"""What bounds of row groups cost: footers, requests, reading one utterance, and the loader's speed and memory.

    python tools/benchmarks/row_groups.py                                     # FLAC, hybrid:0:12, one shard of 3,600 utterances
    python tools/benchmarks/row_groups.py --payload features --row-groups 128:8388608 --row-groups 256:16777216

A row for each `ROWS:BYTES` (64 rows without a bound of bytes, as stores had them before, come first): bytes of the footer; row groups; bytes of the
shard; CPU milliseconds to read one utterance's targets and payload from a random place; utterances that `Loader` makes into batches in a CPU second with
blocks of 256 and two streams, and how far its memory grows above what a process has that opened the source. Every row is measured in a process of its own, in turns.
"""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import loading
import numpy as np
import pyarrow.parquet as pq
import torch
from loading import CLASSES, FRONT_END, dense_of, features_of, flac, utterances

from asrkd.corpus.inventory import Inventory
from asrkd.store import Identity, Store, manifest
from asrkd.store.files import Files
from asrkd.store.row_groups import parse_row_groups
from asrkd.store.schema import shard_name
from asrkd.store.writer import write_shard
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source
from asrkd.targets.codecs import parse_codec
from asrkd.targets.random import frame_keys
from asrkd.targets.streams import POSTERIORS

# Of an utterance; 8 s in the mean, as in docs/scale.md.
loading.SECONDS = (1.0, 15.0)
# Utterances that differ; others are copies of them with ids of their own.
POOL = 200
TEACHER = "0" * 32
UTTERANCES = 3600
# Read by the loader: the first utterances of an epoch.
LOADED = 1000


def make_rows(payload: str) -> list[dict[str, Any]]:
    codec = parse_codec("hybrid:0:12")
    pool = []
    for key, samples, ids, log_probs in utterances(POOL):
        scores = torch.from_numpy(dense_of(ids, log_probs)).log_softmax(1)
        entries = codec.encode(scores, frame_keys(key, TEACHER, len(ids), torch.device("cpu")))
        row = {"start": 0.0, "duration": len(samples) / 16000, "sampling_rate": 16000, "num_samples": len(samples)}
        row |= {"num_frames": len(ids), "kept_mass": 0.9, "entropy": 2.0, "confidence": 0.5}
        row |= {"audio": {"bytes": flac(samples), "path": None}} if payload == "audio" else {}
        row |= {"features": features_of(samples).tobytes()} if payload == "features" else {}
        pool.append(row | codec.layout(CLASSES).pack(entries))
    return [
        pool[number % POOL]
        | {
            "id": f"utterance-{number:07d}",
            "recording_id": f"recording-{number // 20:06d}",
            "speaker": f"s{number // 50}",
        }
        for number in range(UTTERANCES)
    ]


def write(folder: str, rows: list[dict[str, Any]], payload: str, spec: str) -> None:
    identity = Identity(
        "benchmark", TEACHER, {POSTERIORS: parse_codec("hybrid:0:12")}, Inventory(tuple(f"u{n}" for n in range(CLASSES)), "ctc"),
        FRONT_END, embed=payload, row_groups=parse_row_groups(spec),
    )  # fmt: skip
    manifest.create(Files(folder), identity, {"num_units": 1, "num_cuts": len(rows), "hours": 0.0})
    write_shard(Files(folder), 0, rows, identity)


def random_read(store: Store, payload: str) -> float:
    """CPU milliseconds for one utterance."""
    rng = np.random.default_rng(0)
    footer = store.metadata(0)
    times = []
    for group in rng.integers(footer.num_row_groups, size=30).tolist():
        began = time.process_time()
        store.read_row_group(0, group, ["id", "num_frames", *store.target_columns])
        store.read_row_group(0, group, [payload])
        times.append(1000 * (time.process_time() - began))
    return median(times)


def loaded(store: Store) -> tuple[float, float]:
    """Utterances a CPU second of an epoch's beginning, and MB that memory grew by."""
    source = Source("s", store)
    loader = Loader(
        {"s": source}, front_end=FRONT_END, max_frames=8000, max_utterances=64, block_utterances=256, streams=2, cache_mb=0, num_workers=0, prefetch=0
    )  # fmt: skip
    before = peak()
    steps = loader.steps({"s": 1})
    count, began = 0, time.process_time()
    while count < LOADED:
        count += sum(len(batch) for batch in next(steps))
    spent = time.process_time() - began
    return count / spent, (peak() - before) / 1000


def peak() -> int:
    """kB of this process at most; `ru_maxrss` would be that of its parent."""
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(facts["VmHWM"].split()[0])


def measure(folder: str, payload: str) -> None:
    torch.set_num_threads(1)
    speed, memory = loaded(Store.open(folder))
    print(json.dumps({"random": random_read(Store.open(folder), payload), "speed": speed, "memory": memory}))


@click.command(context_settings={"show_default": True})
@click.option("--payload", type=click.Choice(["audio", "features"]), default="audio")
@click.option("--row-groups", "specs", multiple=True, default=("128:8388608", "256:16777216", "512:33554432"))
@click.option("--rounds", default=2, help="of measurements; the median is printed")
@click.option("--measure", "measured", hidden=True, default="")
def main(payload: str, specs: tuple[str, ...], rounds: int, measured: str) -> None:
    """Print the table."""
    if measured:
        measure(measured, payload)
        return
    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as root:
        rows = make_rows(payload)
        folders = {spec: str(Path(root) / (spec.replace(":", "-") or "64")) for spec in ("", *specs)}
        for spec, folder in folders.items():
            write(folder, rows, payload, spec)
        results: dict[str, list[dict[str, float]]] = {spec: [] for spec in folders}
        for _, (spec, folder) in itertools.product(range(rounds), folders.items()):
            command = [sys.executable, __file__, "--payload", payload, "--measure", folder]
            results[spec].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        click.echo("row groups        footer  number    shard  one utterance  loader          memory")
        for spec, folder in folders.items():
            data = (Path(folder) / shard_name(0)).read_bytes()
            footer = pq.read_metadata(io.BytesIO(data))
            figures = {name: median(one[name] for one in results[spec]) for name in ("random", "speed", "memory")}
            click.echo(
                f"{spec or '64':14} {int.from_bytes(data[-8:-4], 'little') / 1000:6.1f} kB {footer.num_row_groups:6} {len(data) / 1e6:6.1f} MB "
                f"{figures['random']:9.1f} ms {figures['speed']:9.0f} /CPU s {figures['memory']:7.0f} MB"
            )


if __name__ == "__main__":
    main()
