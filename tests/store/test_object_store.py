"""Stores on a real S3 endpoint: the same bytes as on a disk, whatever fails; and no more bytes read than needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import make_teacher
from s3_server import S3Server

from asrkd.errors import StoreError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store, manifest
from asrkd.store.compact import compact
from asrkd.store.delete import delete
from asrkd.store.files import Files
from asrkd.store.row_groups import RowGroups
from asrkd.store.verify import verify
from asrkd.store.writer import write_shard


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pt")


def label(corpus: Path, root: str, teacher: str, unit_hours: float = 0.003) -> str:
    cuts = str(corpus / "unlabeled.jsonl.gz")
    plan(cuts, root, teacher=teacher, codec="hybrid:2:8", embed="audio", unit_hours=unit_hours)
    run(Local(Store.open(root)))
    return root


@pytest.fixture(scope="module")
def local(corpus: Path, teacher: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("local") / "store"
    label(corpus, str(root), teacher)
    return root


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def now_and_then(number: int, method: str, path: str) -> str | None:
    """Every fifth request finds the server busy, every seventh answer is cut off."""
    if number % 5 == 0:
        return "unavailable"
    return "truncated" if number % 7 == 0 and method == "GET" else None


def test_the_same_bytes_as_on_a_disk(s3: S3Server, corpus: Path, teacher: str, local: Path) -> None:
    root = label(corpus, s3.uri("plain"), teacher)
    assert s3.objects("plain") == files(local) and len(files(local)) > 5
    assert verify(root) == []


@pytest.mark.slow
def test_the_same_bytes_when_requests_fail_now_and_then(s3: S3Server, corpus: Path, teacher: str, local: Path) -> None:
    with s3.faults(now_and_then):
        root = label(corpus, s3.uri("faults"), teacher)
        assert verify(root) == []
        read = [row["id"] for row in Store.open(root).rows(["id"])]
    assert s3.objects("faults") == files(local)
    assert read == [row["id"] for row in Store.open(str(local)).rows(["id"])]


@pytest.mark.parametrize("fault", ["forbidden", pytest.param("unavailable", marks=pytest.mark.slow)])
def test_a_unit_that_cannot_be_written_leaves_nothing_and_is_made_by_the_next_run(
    fault: str, s3: S3Server, corpus: Path, teacher: str, local: Path
) -> None:
    prefix = f"stuck-{fault}"
    root = s3.uri(prefix)
    with s3.faults(lambda number, method, path: fault if method == "PUT" and "part-00001.parquet" in path else None):
        with pytest.raises(
            StoreError, match=r"'shards/part-00001.parquet' .* cannot be written .* finished units are kept"
        ):
            label(corpus, root, teacher)
    left = s3.objects(prefix)
    assert "shards/part-00000.parquet" in left and "shards/part-00001.parquet" not in left
    run(Local(Store.open(root)))
    assert s3.objects(prefix) == files(local)


def test_a_large_shard_whose_second_part_fails_leaves_nothing(s3: S3Server) -> None:
    root = s3.uri("large")
    with s3.faults(lambda number, method, path: "forbidden" if method == "PUT" and "partNumber=2&" in path else None):
        with pytest.raises(StoreError, match="cannot be written"):
            Files(root).write("shards/part-00000.parquet", bytes(25_000_000))
    assert not Files(root).exists("shards/part-00000.parquet") and s3.objects("large") == {}


def test_an_answer_cut_off_for_good_is_one_clear_line(s3: S3Server, local: Path) -> None:
    store = Store.open(s3.uri("plain"))
    store.index()
    with s3.faults(lambda number, method, path: "forbidden" if method == "GET" else None):
        with pytest.raises(StoreError, match=r"shards/part-00000.parquet of 's3://.* cannot be read"):
            store.read_row_group(0, 0)
        with pytest.raises(StoreError, match=r"cannot be read"):
            Store.open(s3.uri("plain"))
    with s3.faults(lambda number, method, path: "forbidden"):
        with pytest.raises(StoreError, match=r"cannot be listed"):
            store.units()


def test_delete_and_compact(s3: S3Server, corpus: Path, teacher: str, tmp_path: Path) -> None:
    roots = [str(tmp_path / "store"), s3.uri("changed")]
    for root in roots:
        label(corpus, root, teacher)
        delete(Store.open(root), ids=["unlabeled-3"])
        assert verify(root) == []
    assert s3.objects("changed") == files(tmp_path / "store")
    compact(Store.open(roots[0]), str(tmp_path / "compacted"), shard_hours=0.005)
    compact(Store.open(roots[1]), s3.uri("compacted"), shard_hours=0.005)
    assert s3.objects("compacted") == files(tmp_path / "compacted")


def test_a_column_of_a_shard_costs_its_own_bytes(s3: S3Server, local: Path, tmp_path: Path) -> None:
    """Parquet's own numbers are the oracle: the footer and the column's chunks, in a shard of five row groups."""
    rows = list(Store.open(str(local)).rows())
    many = [dict(row, id=f"{row['id']}-{copy}") for copy in range(15) for row in rows]
    root = s3.uri("one-shard")
    identity = dataclasses.replace(Store.open(str(local)).identity, row_groups=RowGroups(len(many) // 5, 1 << 30))
    write_shard(Files(root), 0, many, identity)
    manifest.create(Files(root), identity, {"num_units": 1, "num_cuts": len(many), "hours": 0.0})
    (tmp_path / "shard.parquet").write_bytes(s3.objects("one-shard")["shards/part-00000.parquet"])
    metadata = pq.read_metadata(tmp_path / "shard.parquet")
    assert metadata.num_row_groups == 5
    for column in ("id", "num_frames", "target_codes_0", "audio"):
        chunks = [
            metadata.row_group(group).column(number)
            for group in range(metadata.num_row_groups)
            for number in range(metadata.num_columns)
            if metadata.row_group(group).column(number).path_in_schema.split(".")[0] == column
        ]
        needed = sum(chunk.total_compressed_size for chunk in chunks) + metadata.serialized_size + 8
        start = len(s3.requests)
        assert len(Store.open(root).index([column])) == len(many)
        sent = sum(one.sent for one in s3.requests[start:] if one.method == "GET" and "parquet" in one.path)
        assert needed <= sent <= 1.1 * needed, (column, sent, needed)
