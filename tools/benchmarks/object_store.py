"""Reading batches from an object store that is slow and fails now and then, next to the local disk, in one run.

    python tools/benchmarks/object_store.py

The object store is moto's S3 server in a process of its own; requests wait for `--latency` seconds, and a share of them is answered
"slow down" or cut off. What is counted: frames a second of an epoch's batches (stored features, targets of 20 classes), whether every
utterance came exactly once, and requests. moto answers some tens of requests a second, so the figures say what waiting and failures
cost next to `s3`, not what a real object store gives.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import click
import loading

from asrkd.store import Store
from asrkd.streaming import DiskCache, Loader, Source

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))


def serve(folder: str, link: Connection, latency: float, failures: float) -> None:
    """An S3 endpoint with the files of a folder, until told to end; answers with its number of requests."""
    from s3_server import BUCKET, S3Server

    server = S3Server()
    for path in Path(folder).rglob("*"):
        if path.is_file():
            key = f"store/{path.relative_to(folder).as_posix()}"
            server.client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    chance = random.Random(0)

    def fault(number: int, method: str, path: str) -> str | None:
        time.sleep(latency)
        return chance.choice(["unavailable", "truncated"]) if chance.random() < failures else None

    with server.faults(fault):
        before = len(server.requests)
        link.send(server.uri("store"))
        link.recv()
    link.send(len(server.requests) - before)


def read(root: str, cache: DiskCache | None) -> tuple[float, bool]:
    """Frames a second of an epoch, and whether every utterance came once."""
    loader = Loader(
        {"s": Source("s", Store.open(root), disk_cache=cache)},
        front_end=loading.FRONT_END,
        max_frames=loading.MAX_FRAMES,
        max_utterances=64,
        block_utterances=256,
        cache_mb=0,
    )
    total = len(list(loader.sampler.epoch("s", 0)))
    steps, seen, frames, began = loader.steps({"s": 1}), Counter[str](), 0, time.perf_counter()
    for _ in range(total):
        for batch in next(steps):
            seen.update(batch.ids)
            frames += int(batch.num_frames.sum())
    taken = time.perf_counter() - began
    loader.close()
    return frames / taken, set(seen.values()) == {1} and len(seen) == len(loader.sources["s"])


@click.command(context_settings={"show_default": True})
@click.option("--utterances", default=600)
@click.option("--latency", default=0.05, help="Seconds of every request.")
@click.option("--failures", default=0.05, help="Share of requests.")
def main(utterances: int, latency: float, failures: float) -> None:
    """Print frames a second of every way."""
    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as name:
        store = f"{name}/store"
        loading.write_asrkd(Path(store), "features", utterances)
        local, once = read(store, None)
        click.echo(f"{'way':44s} {'frames/s':>9s} {'of local':>8s} {'requests':>8s}  every utterance once")
        click.echo(f"{'local disk':44s} {local:9.0f} {1:8.2f} {0:8d}  {once}")
        settings = {"s3": (0.0, 0.0), f"s3, {1000 * latency:.0f} ms": (latency, 0.0)}
        settings[f"s3, {1000 * latency:.0f} ms, {100 * failures:.0f} % failures"] = (latency, failures)
        context = multiprocessing.get_context("spawn")
        for way, (seconds, share) in settings.items():
            cache = DiskCache(f"{name}/cache-{share}-{seconds}", 1.0)
            ours, theirs = context.Pipe()
            server = context.Process(target=serve, args=(store, theirs, seconds, share), daemon=True)
            server.start()
            uri = ours.recv()
            found = [read(uri, cache) for _ in range(2)]
            ours.send("end")
            requests = ours.recv()
            server.join()
            for (speed, once), turn in zip(found, ("", ", second run from the disk cache"), strict=True):
                click.echo(
                    f"{way + turn:44s} {speed:9.0f} {speed / local:8.2f} {requests if not turn else 0:8d}  {once}"
                )


if __name__ == "__main__":
    main()
