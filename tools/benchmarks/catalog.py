"""Planning an epoch of a store of the study's size from its catalog: seconds and memory of a process, and of eight at a time.

    python tools/benchmarks/catalog.py                   # 100,000 shards, 360 million utterances, on a local disk
    python tools/benchmarks/catalog.py --s3              # the same from moto's S3, 50 ms a request
    python tools/benchmarks/catalog.py --without 100 --without 400     # opened without a catalog, extrapolated

The store has a catalog and no payload: its shards are empty files of the right size, which planning never opens. "Private" is what a process
has written to (`Private_Dirty` of /proc/self/smaps_rollup); importing torch alone takes most of it, so both are printed.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np

ROWS = 3600  # utterances of a shard of 10 h
GROUP = 256
PLAN = """
import sys, time
began = float(sys.argv[4])
import json
def private():
    facts = dict(line.split(":") for line in open("/proc/self/smaps_rollup").read().splitlines()[1:])
    return int(facts["Private_Dirty"].split()[0]) / 1000
import torch
of_torch = time.time() - began, private()
from asrkd.store import Store
from asrkd.streaming import DiskCache, Source
from asrkd.streaming.plan import BatchConfig
from asrkd.streaming.sampler import Position, Sampler, SamplerProgress
from asrkd.streaming.mixture import endless
from asrkd.streaming.selection import Filter
imported = time.time() - began, private()
root, share, cache = sys.argv[1], float(sys.argv[2]), sys.argv[3]
chosen = Filter({"confidence": (0.5, None)}) if sys.argv[5] == "filter" else None
source = Source("s", Store.open(root), filter=chosen, disk_cache=DiskCache(cache, 50.0) if cache else None)
opened = time.time() - began, private()
limits = BatchConfig(10_000, 64)
sampler = Sampler({"s": source}, {"s": source.num_frames}, {"s": source.num_frames}, limits, seed=0)
blocks = sampler._order("s", 0).num_blocks(0)
at = SamplerProgress(1000, {"s": (Position(0, int(share * blocks), 0),)}, (False,))
keys, _ = next(sampler.steps(endless({"s": 1}), at))
print(json.dumps({"torch": of_torch, "imports": imported, "opened": opened, "key": (time.time() - began, private()), "places": keys[0].places[:2]}))
"""


def make_store(root: str, shards: int) -> None:
    """A store of transcripts with a catalog and without payload."""
    from asrkd.store import Identity, Store, manifest
    from asrkd.store.catalog_writer import publish_catalog
    from asrkd.store.files import Files
    from asrkd.store.index import SHARD

    files, identity = Files(root), Identity()
    plan = {"num_units": shards, "num_cuts": shards * ROWS, "hours": 10.0 * shards}
    manifest.create(files, identity, plan)
    os.makedirs(f"{root}/shards")
    groups = -(-ROWS // GROUP)

    def fill(sink: Any) -> None:
        append = sink.append
        rng = np.random.default_rng(0)
        for unit in range(shards):
            frames = rng.integers(20, 600, ROWS, dtype=np.int32)
            shard = np.zeros(1, SHARD)
            shard[0] = (
                unit,
                13_000_000,
                b"0" * 32,
                b"%032d" % unit,
                groups,
                ROWS,
                ROWS,
                frames.sum(),
                frames.max(),
                36e3,
                36e3,
            )
            append("shards", shard)
            append("group_rows", np.array([GROUP] * (groups - 1) + [ROWS - GROUP * (groups - 1)]))
            append("group_bytes", np.full(groups, 1_000_000))
            append("num_frames", frames)
            append("duration", frames * 0.03)
            for name in ("kept_mass", "entropy", "confidence"):
                append(name, rng.random(ROWS, dtype=np.float32))
            for name in ("id", "speaker"):
                append(name, rng.integers(1, 2**63, ROWS, dtype=np.uint64))
            path = f"{root}/shards/part-{unit:05d}.parquet"
            with open(path, "wb") as stream:
                stream.truncate(13_000_000)

    publish_catalog(Store(files, identity, plan), fill)


def plan(root: str, share: float, cache: str = "", what: str = "") -> subprocess.Popen[str]:
    """A process from the start of Python to the first key."""
    return subprocess.Popen(
        [sys.executable, "-c", PLAN, root, str(share), cache, str(time.time()), what], stdout=subprocess.PIPE, text=True
    )


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate()
    found: dict[str, Any] = json.loads(out)
    return found


def show(name: str, found: list[dict[str, Any]]) -> None:
    def worst(stage: str, part: int) -> float:
        return max(one[stage][part] for one in found)

    total = sum(one["key"][1] for one in found)
    beyond = sum(one["key"][1] - one["imports"][1] for one in found)
    click.echo(
        f"{name}: first key after {worst('key', 0):.1f} s (torch {worst('torch', 0):.1f}, imports {worst('imports', 0):.1f}, source "
        f"{worst('opened', 0):.1f}); private {worst('key', 1):.0f} MB a process ({worst('imports', 1):.0f} after imports), {total:.0f} MB of "
        f"{len(found)} ({beyond:.0f} MB beyond imports)"
    )


def serve(folder: str, link: Connection, latency: float) -> None:
    """moto's S3 with the files of a folder but for its shards; answers with the number of requests."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from s3_server import BUCKET, S3Server

    server = S3Server()
    for path in Path(folder).rglob("*"):
        # Columns that are not asked for would only fill moto's memory.
        if path.is_file() and path.suffix not in (
            ".parquet",
            ".duration",
            ".id",
            ".speaker",
            ".entropy",
            ".kept_mass",
            ".confidence",
        ):
            server.client.upload_file(str(path), BUCKET, f"store/{path.relative_to(folder).as_posix()}")

    def fault(number: int, method: str, path: str) -> None:
        time.sleep(latency)

    with server.faults(fault):
        link.send(server.uri("store"))
        while link.recv():
            link.send(len(server.requests))


def remote(folder: str, shards: int, latency: float) -> None:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(folder, there, latency), daemon=True)
    server.start()
    uri = here.recv()

    def requests() -> int:
        here.send(True)
        return int(here.recv())

    with tempfile.TemporaryDirectory(prefix="asrkd-cache-") as cache:
        before = requests()
        show(f"S3, {shards} shards, first process", [told(plan(uri, 0.01, cache))])
        first = requests()
        show(f"S3, {shards} shards, second process", [told(plan(uri, 0.99, cache))])
        click.echo(
            f"S3, {shards} shards: {first - before} requests of the first process, {requests() - first} of the second"
        )
    here.send(False)
    server.join()


def without(folder: str, shards: int) -> None:
    """Opens a store of shards of the study's shape without a catalog."""
    from asrkd.corpus.inventory import Inventory
    from asrkd.store import Identity, manifest
    from asrkd.store.files import Files
    from asrkd.store.schema import shard_name
    from asrkd.store.writer import write_shard
    from asrkd.targets.codecs import parse_codec
    from asrkd.targets.streams import POSTERIORS

    identity = Identity(
        "t",
        "0" * 32,
        {POSTERIORS: parse_codec("hybrid:0:12")},
        Inventory(("<blk>", *(f"u{n}" for n in range(2999))), "ctc"),
    )
    files = Files(folder)
    rows = [
        {
            "id": f"recording-{n:07d}",
            "recording_id": f"recording-{n:07d}",
            "start": 0.0,
            "duration": 10.0,
            "sampling_rate": 16000,
        }
        | {
            "num_samples": 160000,
            "num_frames": 333,
            "speaker": f"s{n % 99}",
            "kept_mass": 1.0,
            "entropy": 1.0,
            "confidence": 0.5,
        }
        for n in range(ROWS)
    ]
    manifest.create(files, identity, {"num_units": shards, "num_cuts": shards * ROWS, "hours": 10.0 * shards})
    write_shard(files, 0, rows, identity)
    for unit in range(1, shards):
        os.link(f"{folder}/{shard_name(0)}", f"{folder}/{shard_name(unit)}")
    found = told(plan(folder, 0.5))
    (start, before), (end, after) = found["imports"], found["opened"]
    click.echo(
        f"without a catalog, {shards} shards: {1000 * (end - start) / shards:.1f} ms and {(after - before) / shards:.3f} MB a shard; 100,000 shards "
        f"would take {(end - start) / shards * 1e5 / 60:.0f} minutes and {(after - before) / shards * 1e5 / 1000:.1f} GB"
    )


@click.command(context_settings={"show_default": True})
@click.option("--shards", default=100_000, help="Shards, of 3,600 utterances each.")
@click.option("--s3", is_flag=True, help="Read from moto's S3, too.")
@click.option("--latency", default=0.05, help="Seconds of every request.")
@click.option(
    "--without", "plain", multiple=True, type=int, help="Shards of a store without a catalog; may be given again."
)
def main(shards: int, s3: bool, latency: float, plain: tuple[int, ...]) -> None:
    """Print seconds and memory."""
    for count in plain:
        with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as folder:
            without(f"{folder}/store", count)
    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as folder:
        root = f"{folder}/store"
        began = time.perf_counter()
        make_store(root, shards)
        size = sum(path.stat().st_size for path in Path(root, "catalog").iterdir())
        click.echo(
            f"catalog of {shards} shards, {shards * ROWS} utterances: {size / 1e9:.2f} GB, made in {time.perf_counter() - began:.0f} s"
        )
        for share in (0.01, 0.99):
            show(f"at {share:.0%} of an epoch", [told(plan(root, share))])
        show("with a bound on confidence", [told(plan(root, 0.5, what="filter"))])
        show("eight processes", [told(one) for one in [plan(root, share / 8) for share in range(8)]])
        if s3:
            remote(root, shards, latency)


if __name__ == "__main__":
    main()
