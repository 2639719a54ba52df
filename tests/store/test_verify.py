"""Every kind of damage that `verify` promises to find, done to a store of two shards that it finds nothing in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from target_helpers import pack, unpack

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.errors import StoreError
from asrkd.store import manifest
from asrkd.store.files import Files
from asrkd.store.identity import Identity
from asrkd.store.row_groups import RowGroups
from asrkd.store.schema import shard_name
from asrkd.store.verify import verify
from asrkd.store.writer import write_shard
from asrkd.targets.codecs import parse_codec
from asrkd.targets.random import frame_keys
from asrkd.targets.statistics import frame_statistics, utterance_statistics
from asrkd.targets.streams import POSTERIORS

LAW = FrontEnd().frame_law()
IDENTITY = Identity(
    "checkpoint:teacher", "f" * 64, {POSTERIORS: parse_codec("hybrid:2:8")}, Inventory(tuple(f"u{n}" for n in range(300)), "hmm"),
    embed="audio", row_groups=RowGroups(64, 1 << 30),
)  # fmt: skip


def make_row(name: str, frames: int = 30) -> dict[str, Any]:
    codec = IDENTITY.posterior_codec
    generator = torch.Generator().manual_seed(int(name[1:]))
    log_probs = (torch.randn(frames, 300, generator=generator) * 3).log_softmax(1)
    packed = pack(codec, codec.encode(log_probs, frame_keys(name, "f", frames, torch.device("cpu"))))
    samples = LAW.window + LAW.shift * (3 * frames - 1)
    audio = np.random.default_rng(int(name[1:])).bytes(3000)
    row = {"id": name, "recording_id": "r", "start": 0.0, "duration": samples / 16000, "sampling_rate": 16000}
    row |= {"num_samples": samples, "num_frames": frames, "speaker": "s", "text": "some words", "custom": "{}"}
    row |= {"audio": {"bytes": audio, "path": f"{name}.flac"}, "alignment": np.zeros(frames, np.int32)}
    return (
        row | packed | vars(utterance_statistics(frame_statistics(log_probs), unpack(codec, [packed], [frames], 300)))
    )


@pytest.fixture(scope="module")
def rows() -> list[list[dict[str, Any]]]:
    return [[make_row(f"u{n}") for n in range(70)], [make_row(f"u{n}") for n in range(70, 100)]]


def write_store(root: Path, rows: list[list[dict[str, Any]]], planned: list[list[dict[str, Any]]]) -> str:
    for unit, (own, plan) in enumerate(zip(rows, planned, strict=True)):
        lines = "".join(json.dumps({"id": row["id"]}) + "\n" for row in plan)
        (root / "plan").mkdir(parents=True, exist_ok=True)
        (root / f"plan/part-{unit:05d}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        write_shard(Files(str(root)), unit, own, IDENTITY)
    manifest.create(Files(str(root)), IDENTITY, {"num_units": 2, "num_cuts": 100, "hours": 0.1})
    return str(root)


def test_a_clean_store_has_no_problems(rows: list[list[dict[str, Any]]], tmp_path: Path) -> None:
    assert verify(write_store(tmp_path, rows, rows)) == []


def columns_of(path: Path) -> list[tuple[str, int, int]]:
    """Column, begin and end of each column chunk's data in a file, with values."""
    footer = pq.read_metadata(path)
    found = []
    for group in range(footer.num_row_groups):
        for number in range(footer.num_columns):
            chunk = footer.row_group(group).column(number)
            begin = chunk.dictionary_page_offset or chunk.data_page_offset
            found.append((chunk.path_in_schema.split(".")[0], begin, begin + chunk.total_compressed_size))
    return found


def test_a_flipped_bit_is_found_in_every_column(rows: list[list[dict[str, Any]]], tmp_path: Path) -> None:
    root = write_store(tmp_path, rows, rows)
    path = tmp_path / shard_name(1)
    whole = path.read_bytes()
    for column, _, end in columns_of(path):
        # The last byte of a chunk is data: page headers, which say the size and the checksum, come first.
        path.write_bytes(whole[: end - 1] + bytes([whole[end - 1] ^ 16]) + whole[end:])
        problems = verify(root)
        assert any(
            "part-00001.parquet: row group 0 is damaged in" in problem and column in problem for problem in problems
        )
    path.write_bytes(whole)
    assert verify(root) == []


def drop(rows: list[list[dict[str, Any]]]) -> None:
    del rows[0][3]


def double(rows: list[list[dict[str, Any]]]) -> None:
    rows[1].insert(2, rows[0][5])


def reorder(rows: list[list[dict[str, Any]]]) -> None:
    rows[0][1], rows[0][2] = rows[0][2], rows[0][1]


def add_a_frame(rows: list[list[dict[str, Any]]]) -> None:
    rows[0][4] = rows[0][4] | {"num_frames": 31}


def other_targets(rows: list[list[dict[str, Any]]]) -> None:
    rows[0][4] = rows[0][4] | {"target_codes_0": bytes([200] * len(rows[0][4]["target_codes_0"]))}


def other_statistics(rows: list[list[dict[str, Any]]]) -> None:
    rows[1][0] = rows[1][0] | {"kept_mass": 0.8}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop, "part-00000.parquet: utterance 'u3' is planned but not stored"),
        (double, "part-00001.parquet: utterance 'u5' occurs twice"),
        (reorder, "part-00000.parquet: its rows are not in the order of the plan"),
        (add_a_frame, "part-00000.parquet: utterance 'u4' has 31 frames, but"),
        (other_targets, "part-00000.parquet: utterance 'u4' has a frame of mass"),
        (other_statistics, "part-00001.parquet: utterance 'u70' says that 0.8000 of the mass is kept, but"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damaged_rows_are_named(
    damage: Callable[[list[list[dict[str, Any]]]], None], message: str, rows: list[list[dict[str, Any]]], tmp_path: Path
) -> None:
    damaged = [list(part) for part in rows]
    damage(damaged)
    problems = verify(write_store(tmp_path, damaged, rows))
    assert any(message in problem for problem in problems), problems


def test_damaged_files_are_named(rows: list[list[dict[str, Any]]], tmp_path: Path) -> None:
    root = write_store(tmp_path, rows, rows)
    first, second = tmp_path / shard_name(0), tmp_path / shard_name(1)
    contents = first.read_bytes(), second.read_bytes()

    def problems() -> str:
        return "\n".join(verify(root))

    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert "shards/part-00000.parquet is unit 1 under another name" in problems()
    first.write_bytes(contents[0])
    second.write_bytes(contents[1][: len(contents[1]) // 2])
    assert "part-00001.parquet" in problems() and "cannot be read" in problems()
    second.unlink()
    assert "shards/part-00001.parquet is not there" in problems()
    second.write_bytes(contents[1])
    inventory = tmp_path / "inventory.txt"
    units = inventory.read_bytes()
    inventory.write_bytes(units.replace(b"u7\n", b"x7\n"))
    assert "inventory.txt (300 units) is not the inventory of the manifest (300 units" in problems()
    other = Inventory(tuple(inventory.read_text().split()), "hmm")
    content = (tmp_path / "manifest.json").read_text()
    changed = json.loads(content)
    changed["identity"]["inventory_fingerprint"] = other.fingerprint
    (tmp_path / "manifest.json").write_text(json.dumps(changed))
    assert "part-00000.parquet" in problems() and "has inventory_fingerprint" in problems()
    inventory.unlink()
    with pytest.raises(StoreError, match=r"has no 'inventory.txt'"):
        verify(root)
    inventory.write_bytes(units)
    (tmp_path / "manifest.json").write_text(content)
    assert problems() == ""
