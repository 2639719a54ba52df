from __future__ import annotations

import dataclasses
import os
import pickle
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from target_helpers import pack, unpack

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.errors import ConfigError, MismatchError, StoreError
from asrkd.store import Identity, Store, manifest
from asrkd.store.files import Files
from asrkd.store.rewrite import with_columns
from asrkd.store.row_groups import RowGroups
from asrkd.store.verify import verify
from asrkd.store.writer import write_shard
from asrkd.targets.codecs import parse_codec
from asrkd.targets.statistics import frame_statistics, utterance_statistics
from asrkd.targets.streams import POSTERIORS

LAW = FrontEnd().frame_law()
IDENTITY = Identity(
    teacher="checkpoint:t",
    teacher_fingerprint="f" * 32,
    streams={POSTERIORS: parse_codec("topk:3")},
    inventory=Inventory(tuple("abcdef"), "ctc"),
    row_groups=RowGroups(64, 1 << 30),
)


def make_rows(count: int, *, first: int = 0, frames: int = 4) -> list[dict[str, Any]]:
    codec = parse_codec("topk:3")
    rows = []
    for number in range(first, first + count):
        generator = torch.Generator().manual_seed(number)
        log_probs = torch.randn(frames, 6, generator=generator).log_softmax(1)
        packed = pack(codec, codec.encode(log_probs))
        row = {"id": f"u{number}", "recording_id": "r", "start": 0.0, "duration": 1.0, "sampling_rate": 16000}
        row |= {"num_samples": LAW.window + LAW.shift * (3 * frames - 1), "num_frames": frames}
        row |= {"audio": {"bytes": bytes(20_000), "path": "x.flac"}}
        rows.append(
            row | packed | vars(utterance_statistics(frame_statistics(log_probs), unpack(codec, [packed], [frames], 6)))
        )
    return rows


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A store of two shards, 100 and 3 utterances."""
    write_shard(Files(str(tmp_path / "store")), 0, make_rows(100), IDENTITY)
    write_shard(Files(str(tmp_path / "store")), 1, make_rows(3, first=100), IDENTITY)
    manifest.create(Files(str(tmp_path / "store")), IDENTITY, {"num_units": 2, "num_cuts": 103, "hours": 0.03})
    return str(tmp_path / "store")


def test_rows_come_back(root: str) -> None:
    store = Store.open(root)
    assert store.units() == [0, 1] and store.identity == IDENTITY
    for expected, row in zip(make_rows(103), store.rows(), strict=True):
        assert row["id"] == expected["id"] and row["audio"] == expected["audio"] and row["text"] is None
        for name in store.target_columns:
            np.testing.assert_array_equal(row[name], expected[name])
        assert store.targets(row).num_frames == 4
    index = store.index(["id"])
    assert index["id"].to_pylist() == [f"u{n}" for n in range(103)]
    places = list(zip(*(index[name].to_pylist() for name in ("unit", "row_group", "row")), strict=True))
    assert places[63:66] == [(0, 0, 63), (0, 1, 0), (0, 1, 1)] and places[100] == (1, 0, 0)
    unit, group, row = places[77]
    assert store.read_row_group(unit, group, ["id"])["id"][row].as_py() == "u77"
    assert verify(root) == []


def test_same_rows_same_bytes_and_every_shard_says_what_it_is(root: str, tmp_path: Path) -> None:
    write_shard(Files(str(tmp_path / "again")), 0, make_rows(100), IDENTITY)
    one, two = (Path(base) / "shards/part-00000.parquet" for base in (root, tmp_path / "again"))
    assert one.read_bytes() == two.read_bytes()
    metadata = pq.read_metadata(one).metadata
    assert b'"teacher_fingerprint":"ffff' in metadata[b"asrkd.identity"] and metadata[b"asrkd.unit"] == b"0"


def test_only_the_columns_asked_for_are_read(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(root)
    store.metadata(0)
    counts: list[int] = []

    class Counting:
        def __init__(self, path: str, mode: str = "rb") -> None:
            self.file = open(path, mode)

        def read(self, size: int = -1) -> bytes:
            data = self.file.read(size)
            counts.append(len(data))
            return data

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    path = Path(root) / "shards/part-00000.parquet"

    def bytes_for(columns: list[str]) -> int:
        counts.clear()
        import pyarrow as pa

        pq.ParquetFile(pa.PythonFile(Counting(str(path)), mode="r"), pre_buffer=False).read(columns=columns)
        return sum(counts)

    everything, few = bytes_for(["audio", "id", *store.target_columns]), bytes_for(["id"])
    footer = 2 * 65536
    sizes = [pq.read_metadata(path).row_group(g).column(0).total_compressed_size for g in (0, 1)]
    assert few <= sum(sizes) + footer and everything >= few


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("teacher_fingerprint", "e" * 32),
        ("inventory", Inventory(tuple("abcdeg"), "ctc")),
        ("inventory", Inventory(tuple("abcdefg"), "ctc")),
        ("streams", {POSTERIORS: parse_codec("topk:2")}),
        ("front_end", FrontEnd(stride=4)),
        ("subsampling_factor", 2),
    ],
)
def test_a_shard_of_another_identity_is_refused_by_name(root: str, name: str, value: Any) -> None:
    write_shard(Files(root), 1, [], dataclasses.replace(IDENTITY, **{name: value}))
    shown = {6: "inventory_fingerprint", 7: "num_units"}[len(value)] if name == "inventory" else name
    shown = "codec" if name == "streams" else shown
    with pytest.raises(MismatchError, match=f"part-00001.* has {shown} "):
        Store.open(root).index(["id"])
    assert any(shown in problem for problem in verify(root))


def test_existing_missing_and_damaged_stores_are_refused(root: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a store already"):
        manifest.create(Files(root), IDENTITY, {})
    with pytest.raises(StoreError, match="has no 'manifest.json'"):
        Store.open(str(tmp_path / "none"))
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open("nosuch://bucket/x")
    (Path(root) / "shards/part-00001.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match="part-00001.parquet"):
        Store.open(root).index(["id"])
    (Path(root) / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        Store.open(root)
    with pytest.raises(ConfigError, match="embed is 'video'"):
        Identity(embed="video")


def test_temporary_files_of_killed_writers_are_not_shards(root: str) -> None:
    (Path(root) / "shards/.part-00002.parquet.0123.tmp").write_bytes(b"half")
    assert Store.open(root).units() == [0, 1] and Files(root).list("shards", ".tmp") == []


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    # A limit on the size of files makes write() fail in the middle, as a full disk does.
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        "from asrkd.errors import StoreError\n"
        "from asrkd.store.files import Files\n"
        "try:\n"
        "    Files(sys.argv[1]).write('shards/part-00000.parquet', bytes(50000))\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "part-00000.parquet' (50000 bytes) cannot be written" in done.stdout, done.stderr
    assert list((tmp_path / "shards").iterdir()) == []
    assert resource and signal


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_tmpfs_is_a_clear_error_and_earlier_files_stay(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        Files(str(place)).write("shards/part-00000.parquet", bytes(20_000))
        with pytest.raises(StoreError, match="No space left.*free space"):
            Files(str(place)).write("shards/part-00001.parquet", bytes(100_000))
        assert [p.name for p in (place / "shards").iterdir()] == ["part-00000.parquet"]
        Files(str(place)).write("shards/part-00001.parquet", bytes(20_000))
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_verify_names_each_problem(root: str) -> None:
    def problems(**changes: Any) -> str:
        rows = make_rows(3, first=100)
        rows[1] |= changes
        write_shard(Files(root), 1, rows, IDENTITY)
        return "\n".join(verify(root))

    assert problems() == ""
    assert "'u5' occurs twice" in problems(id="u5")
    assert "'u101' has 4 frames, but 100 samples make 0" in problems(num_samples=100)
    ids = make_rows(3, first=100)[1]["target_ids_0"]
    assert "outside the 6 classes" in problems(target_ids_0=bytes(len(ids) * [9]))
    assert "above 1" in problems(target_codes_0=bytes(12), target_codes_1=bytes(12))
    assert f"'target_ids_0' has {len(ids) - 1} bytes where {len(ids)} belong" in problems(target_ids_0=ids[:-1])
    assert "alignment of 3 frames instead of 4" in problems(alignment=np.zeros(3, np.int32))


def test_alignments_are_filled_in_a_copy(root: str, tmp_path: Path) -> None:
    labels = {f"u{n}": np.full(4, n % 6) for n in range(103)}
    columns = {key: {"alignment": own} for key, own in labels.items()}
    with_columns(Store.open(root), str(tmp_path / "out"), columns)
    copied = list(Store.open(str(tmp_path / "out")).rows())
    assert [row["alignment"].tolist() for row in copied] == [labels[row["id"]].tolist() for row in copied]
    for before, after in zip(Store.open(root).rows(), copied, strict=True):
        assert before["audio"] == after["audio"]
        assert before["target_ids_0"] == after["target_ids_0"]
    with pytest.raises(StoreError, match="is a store already"):
        with_columns(Store.open(root), str(tmp_path / "out"), columns)
    with pytest.raises(StoreError, match="'u0' has 9 frames"):
        with_columns(Store.open(root), str(tmp_path / "bad"), {"u0": {"alignment": np.zeros(9)}})


def test_a_uri_is_a_root_too(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/store"
    write_shard(Files(uri), 0, make_rows(2), IDENTITY)
    manifest.create(Files(uri), IDENTITY, {"num_units": 1, "num_cuts": 2})
    assert [row["id"] for row in Store.open(uri).rows(["id"])] == ["u0", "u1"]


def test_a_handle_is_small_when_it_goes_to_another_process_and_opens_the_files_there(root: str) -> None:
    store = Store.open(root)
    before = len(pickle.dumps(store))
    store.index()
    assert [store.footer_fingerprint(unit) for unit in store.units()]
    data = pickle.dumps(store)
    assert len(data) < before + 100 < 4000
    again = pickle.loads(data)
    assert again.identity == store.identity
    assert [row["id"] for row in again.rows(["id"])] == [row["id"] for row in store.rows(["id"])]
    assert [again.footer_fingerprint(unit) for unit in again.units()] == [
        store.footer_fingerprint(unit) for unit in store.units()
    ]
