from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import make_teacher
from hypothesis import given
from hypothesis import strategies as st

from asrkd.errors import ConfigError, StoreError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Identity, Store
from asrkd.store.compact import compact
from asrkd.store.identity import FORMAT
from asrkd.store.row_groups import DEFAULT, ROWS_ONLY, RowGroups, parse_row_groups, row_bytes
from asrkd.store.schema import shard_schema
from asrkd.store.verify import verify
from asrkd.store.writer import shard_bytes

OLD_STORES = Path(__file__).parents[1] / "data" / "stores"


def make_row(number: int, payload: bytes | None = None, text: str | None = None) -> dict[str, Any]:
    row = {"id": f"u{number}", "recording_id": "r", "start": 0.0, "duration": 1.0, "sampling_rate": 16000}
    row |= {"num_samples": 16000, "num_frames": 33, "text": text}
    return row | {"audio": None if payload is None else {"bytes": payload, "path": None}}


def footer_of(data: bytes) -> pq.FileMetaData:
    return pq.read_metadata(io.BytesIO(data))


def group_sizes(data: bytes) -> list[int]:
    footer = footer_of(data)
    return [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]


@given(
    sizes=st.lists(st.one_of(st.none(), st.integers(0, 300)), max_size=40),
    rows=st.integers(1, 12),
    num_bytes=st.one_of(st.none(), st.integers(1, 2000)),
)
def test_row_groups_are_those_of_a_plain_loop(sizes: list[int | None], rows: int, num_bytes: int | None) -> None:
    texts = [None if size is None else "é" * size for size in sizes]
    labels = [None if size is None else list(range(size % 7)) for size in sizes]
    flags = [None if size is None else ["ab"] * (size % 3) for size in sizes]
    columns = {"text": pa.array(texts, pa.string()), "alignment": pa.array(labels, pa.list_(pa.int32()))}
    table = pa.table(columns | {"text_flags": pa.array(flags, pa.list_(pa.string()))})
    bounds = RowGroups(rows, num_bytes)
    expected: list[list[int]] = []
    for size in sizes:
        row = 0 if size is None else 2 * size + 4 * (size % 7) + 2 * (size % 3)
        group = expected[-1] if expected else []
        full = len(group) == rows or (num_bytes is not None and sum(group) + row > num_bytes)
        if not group or full:
            expected.append([row])
        else:
            group.append(row)
    assert bounds.sizes(table) == [len(group) for group in expected]
    assert row_bytes(table).tolist() == [row for group in expected for row in group]


@given(rows=st.integers(1, 10**6), num_bytes=st.integers(1, 10**12))
def test_specs_are_read_as_they_are_written(rows: int, num_bytes: int) -> None:
    bounds = RowGroups(rows, num_bytes)
    assert parse_row_groups(bounds.spec) == bounds
    identity = Identity(row_groups=bounds)
    assert identity.to_dict()["row_groups"] == f"{rows}:{num_bytes}"
    assert Identity.from_dict(identity.to_dict(), ()) == identity


@pytest.mark.parametrize("spec", ["64", "0:1", "1:0", "-1:5", "a:b", "1:2:3", "1:٣", " 1:2", "1:2\n"])
def test_other_specs_are_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="row_groups is"):
        parse_row_groups(spec)
    with pytest.raises(StoreError, match="row_groups is"):
        Identity.from_dict(Identity().to_dict() | {"row_groups": spec}, ())


def test_an_identity_without_row_groups_is_of_64_rows() -> None:
    values = Identity().to_dict()
    del values["row_groups"]
    identity = Identity.from_dict(values, ())
    assert identity.row_groups == ROWS_ONLY and identity.to_dict() == values and values["format"] == FORMAT


def test_shards_are_cut_by_bytes_and_by_rows() -> None:
    rows = [make_row(number, bytes(1000)) for number in range(20)]
    identity = Identity(embed="audio", row_groups=RowGroups(8, 5500))
    assert group_sizes(shard_bytes(0, rows, identity)) == [5, 5, 5, 5]  # each row has 1,046 bytes and its id
    assert group_sizes(shard_bytes(0, [make_row(number) for number in range(20)], identity)) == [8, 8, 4]
    # One that is too long has a row group of its own.
    rows[6] = make_row(6, bytes(9000))
    assert group_sizes(shard_bytes(0, rows, identity)) == [5, 1, 1, 5, 5, 3]
    assert group_sizes(shard_bytes(0, [], identity)) == [0]


def test_the_footer_of_a_shard_of_ten_hours_is_small() -> None:
    rows = [make_row(number, text="a few words") for number in range(3600)]
    new, old = (shard_bytes(0, rows, Identity(row_groups=bounds)) for bounds in (DEFAULT, ROWS_ONLY))
    new_size, old_size = (int.from_bytes(data[-8:-4], "little") for data in (new, old))
    assert group_sizes(new) == [256] * 14 + [16]
    assert new_size < 0.25 * old_size and new_size < 20_000
    footer = footer_of(new)
    assert not any(footer.row_group(0).column(number).is_stats_set for number in range(footer.num_columns))


def test_another_content_of_the_same_size_has_another_footer() -> None:
    """Without statistics of columns: what a catalog knows a shard by."""
    by_size: dict[int, list[bytes]] = {}
    for number in range(20):
        data = shard_bytes(0, [make_row(0, bytes([number]))], Identity(embed="audio"))
        by_size.setdefault(len(data), []).append(data[-int.from_bytes(data[-8:-4], "little") - 8 :])
    assert max(map(len, by_size.values())) > 1
    assert all(len(set(footers)) == len(footers) for footers in by_size.values())


def test_shards_of_older_stores_keep_their_bytes() -> None:
    rows = [make_row(number, bytes(number), text="é" * (number % 5)) for number in range(150)]
    identity = Identity(embed="audio", row_groups=ROWS_ONLY)
    data = shard_bytes(0, rows, identity)
    schema = shard_schema(identity)
    leaves = [field.name for field in schema if not pa.types.is_nested(field.type)]
    blobs = ("features", "text", "custom")
    buffer = io.BytesIO()
    compression = {
        **dict.fromkeys([*leaves, "audio.path", "alignment.list.element"], "zstd"),
        "audio.bytes": "none",
        "features": "none",
    }
    with pq.ParquetWriter(
        buffer, schema, compression=compression, compression_level={name: 9 for name, codec in compression.items() if codec == "zstd"},
        use_dictionary=["speaker", "recording_id"], write_page_checksum=True, store_schema=False,
        write_statistics=[leaf for leaf in leaves if leaf not in blobs],
    ) as writer:  # fmt: skip
        table = pa.Table.from_arrays(
            [pa.array([row.get(f.name) for row in rows], f.type) for f in schema], schema=schema
        )
        writer.write_table(table, row_group_size=64)
        stored = footer_of(data).metadata
        writer.add_key_value_metadata({key: stored[key] for key in (b"asrkd.identity", b"asrkd.unit", b"huggingface")})
    assert group_sizes(data) == [64, 64, 22] and buffer.getvalue() == data


@pytest.mark.slow
def test_a_store_planned_by_an_older_asrkd_is_finished_in_its_layout_and_compacted_into_the_new(
    corpus: Path, tmp_path: Path
) -> None:
    root, teacher = tmp_path / "store", make_teacher(tmp_path / "teacher.pt")
    plan(
        str(corpus / "unlabeled.jsonl.gz"),
        str(root),
        teacher=teacher,
        codec="hybrid:2:8",
        embed="audio",
        unit_hours=0.001,
    )
    content = json.loads((root / "manifest.json").read_text())
    del content["identity"]["row_groups"]
    (root / "manifest.json").write_text(json.dumps(content))
    run(Local(Store.open(str(root))))
    shards = {path.name: path.read_bytes() for path in (root / "shards").iterdir()}
    assert footer_of(shards["part-00000.parquet"]).row_group(0).column(0).is_stats_set
    (root / "shards/part-00001.parquet").unlink()
    assert run(Local(Store.open(str(root)))).labeled > 0
    assert {path.name: path.read_bytes() for path in (root / "shards").iterdir()} == shards
    compact(Store.open(str(root)), str(tmp_path / "new"), shard_hours=0.002)
    assert verify(str(root)) == [] and verify(str(tmp_path / "new")) == []
    new = Store.open(str(tmp_path / "new"))
    assert new.identity.row_groups == DEFAULT and not new.metadata(0).row_group(0).column(0).is_stats_set
    for one, other in zip(Store.open(str(root)).rows(), new.rows(), strict=True):
        assert repr(one) == repr(other)


@pytest.mark.parametrize("name", ["hybrid-0-12", "dense", "layer-codebooks"])
def test_older_stores_are_rewritten_into_the_new_layout(name: str, tmp_path: Path) -> None:
    old = Store.open(str(OLD_STORES / name))
    assert old.identity.row_groups == ROWS_ONLY
    compact(old, str(tmp_path / "new"))
    new = Store.open(str(tmp_path / "new"))
    assert new.identity.to_dict() == old.identity.to_dict() | {"row_groups": DEFAULT.spec}
    np.testing.assert_array_equal([repr(row) for row in new.rows()], [repr(row) for row in old.rows()])
