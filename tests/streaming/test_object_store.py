"""Streaming from a real S3 endpoint that is slow and fails: the batches of a local disk, and bounded retries."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from s3_server import BUCKET, S3Server
from stream_helpers import FRONT_END, same_batches

from asrkd.errors import StoreError
from asrkd.store import Store
from asrkd.streaming.batch import Batch
from asrkd.streaming.disk_cache import DiskCache
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source

MakeStore = Callable[..., str]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def local(make_store: MakeStore) -> str:
    return make_store("u", rows=200, shards=3)


def _upload(s3: S3Server, local: str) -> str:
    for path in Path(local).rglob("*"):
        if path.is_file():
            name = path.relative_to(local).as_posix()
            s3.client.put_object(Bucket=BUCKET, Key=f"{Path(local).name}/{name}", Body=path.read_bytes())
    return s3.uri(Path(local).name)


@pytest.fixture
def remote(s3: S3Server, local: str) -> str:
    return _upload(s3, local)


def _loader(root: str, disk_cache: DiskCache | None = None, cache_mb: float = 256) -> Loader:
    source = Source("s", Store.open(root), disk_cache=disk_cache, cache_mb=cache_mb)
    return Loader(
        {"s": source}, front_end=FRONT_END, max_frames=300, max_utterances=16, block_utterances=70, cache_mb=0
    )


def _epoch(loader: Loader) -> list[Batch]:
    count = len(list(loader.sampler.epoch("s", 0)))
    return [batch for step in islice(loader.steps({"s": 1}), count) for batch in step]


@pytest.mark.slow
def test_the_batches_of_a_local_disk_when_requests_are_slow_and_fail(s3: S3Server, local: str, remote: str) -> None:
    expected = _epoch(_loader(local))
    chance = random.Random(0)

    def fault(number: int, method: str, path: str) -> str | None:
        time.sleep(chance.uniform(0, 0.02))
        return chance.choices([None, "unavailable", "truncated"], [0.9, 0.05, 0.05])[0]

    with s3.faults(fault):
        found = _epoch(_loader(remote))
    assert same_batches(expected, found)
    assert sorted(name for batch in found for name in batch.ids) == sorted(f"u{number}" for number in range(200))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_retries_end_with_one_clear_line(s3: S3Server, make_store: MakeStore) -> None:
    loader = _loader(_upload(s3, make_store("v", rows=20, shards=1)))
    before = len(s3.requests)
    with s3.faults(lambda number, method, path: "truncated" if "/shards/" in path else None):
        with pytest.raises(StoreError, match=r"part-0000\d.parquet of .* cannot be read"):
            next(loader.steps({"s": 1}))
    # Two reads (facts, audio), four attempts each, of which each opens the shard once; S3's client repeats requests by itself.
    asked = s3.requests[before:]
    assert sum(request.method == "HEAD" for request in asked) == 8
    assert len(asked) < 300


@pytest.mark.slow
def test_a_second_run_reads_its_row_groups_from_the_local_disk(s3: S3Server, remote: str, tmp_path: Path) -> None:
    expected = _epoch(_loader(remote, DiskCache(tmp_path, 1.0), cache_mb=0))
    again = _loader(remote, DiskCache(tmp_path, 1.0), cache_mb=0)
    before = len(s3.requests)
    assert same_batches(expected, _epoch(again))
    assert len(s3.requests) == before


def test_row_groups_of_a_batch_are_asked_for_at_a_time(s3: S3Server, remote: str) -> None:
    loader = _loader(remote)

    lock, waiting, most = threading.Lock(), 0, 0

    def slow(number: int, method: str, path: str) -> None:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        time.sleep(0.2)
        with lock:
            waiting -= 1

    steps = loader.steps({"s": 1})
    with s3.faults(slow):
        before = len(s3.requests)
        next(steps)
    assert len(s3.requests) - before >= 4
    # Several wait for their answers at the same time.
    assert most >= 2
