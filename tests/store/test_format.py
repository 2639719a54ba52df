"""Reads stores by docs/format.md alone, and opens them in programs of others."""

from __future__ import annotations

import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from target_helpers import pack, unpack

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.store import Identity, Store, manifest
from asrkd.store.files import Files
from asrkd.store.writer import write_shard
from asrkd.targets.codecs import parse_codec
from asrkd.targets.random import frame_keys
from asrkd.targets.statistics import frame_statistics, utterance_statistics
from asrkd.targets.streams import POSTERIORS

LAW = FrontEnd().frame_law()
CODECS = ("dense", "topk:4", "topk:300", "nucleus:0.9:12", "sampled:9", "hybrid:0:8", "hybrid:3:6")


def write_store(root: str, codec_spec: str, lengths: list[int], num_classes: int, *, flatness: float = 1.0) -> None:
    """A store of random targets that change slowly, with noise as audio."""
    codec = parse_codec(codec_spec)
    identity = Identity(
        "checkpoint:t", "f" * 32, {POSTERIORS: codec}, Inventory(("<blk>", *(f"é{n}" for n in range(1, num_classes))), "ctc"), embed="audio",
    )  # fmt: skip
    rows = []
    for number, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(number)
        logits = torch.randn(length, num_classes, generator=generator).cumsum(0) / flatness
        log_probs = logits.log_softmax(1)
        packed = pack(codec, codec.encode(log_probs, frame_keys(f"u{number}", "f" * 32, length, torch.device("cpu"))))
        samples = LAW.window + LAW.shift * (3 * length - 1) if length else 5
        audio = io.BytesIO()
        noise = np.random.default_rng(number).integers(-999, 999, samples, dtype=np.int16)
        soundfile.write(audio, noise, 16000, format="FLAC")
        row = {"id": f"u{number}", "recording_id": "r", "start": 0.0, "duration": samples / 16000}
        row |= {"sampling_rate": 16000, "num_samples": samples, "num_frames": length, "speaker": f"s{number % 2}"}
        row |= {"audio": {"bytes": audio.getvalue(), "path": f"u{number}.flac"}}
        found = utterance_statistics(frame_statistics(log_probs), unpack(codec, [packed], [length], num_classes))
        rows.append(row | packed | vars(found))
    write_shard(Files(root), 0, rows[:2], identity)
    write_shard(Files(root), 1, rows[2:], identity)
    manifest.create(Files(root), identity, {"num_units": 2, "num_cuts": len(rows), "hours": 0.0})


def read_by_the_page(root: Path) -> list[np.ndarray]:
    """(T, V) probabilities of every utterance, with no code of the package."""
    identity = json.loads((root / "manifest.json").read_text())["identity"]
    units = (root / "inventory.txt").read_text(encoding="utf-8").split("\n")[:-1]
    text = json.dumps(
        [identity["topology"], identity["states_per_phone"], units], separators=(",", ":"), ensure_ascii=False
    )
    assert identity["num_units"] == len(units)
    assert identity["inventory_fingerprint"] == hashlib.sha256(text.encode()).hexdigest()[:32]
    utterances = []
    for path in sorted((root / "shards").glob("part-*.parquet")):
        stored = json.loads(pq.read_metadata(path).metadata[b"asrkd.identity"])
        assert {**stored, "teacher": ""} == {**identity, "teacher": ""}
        for row in pq.read_table(path).to_pylist():
            assert row["num_frames"] == num_frames(row["num_samples"], identity)
            utterances.append(decode(row, identity["codec"], len(units)))
    return utterances


def num_frames(num_samples: int, identity: dict[str, Any]) -> int:
    front_end = identity["front_end"]
    window = math.floor(front_end["sampling_rate"] * front_end["frame_length_ms"] / 1000)
    shift = math.floor(front_end["sampling_rate"] * front_end["frame_shift_ms"] / 1000)
    windows = 0 if num_samples < window else 1 + (num_samples - window) // shift
    features = 0 if windows < front_end["stack"] else 1 + (windows - front_end["stack"]) // front_end["stride"]
    return math.ceil(features / identity["subsampling_factor"])


def decode(row: dict[str, Any], spec: str, num_classes: int) -> np.ndarray:
    name, *numbers = spec.split(":")
    if name == "dense":
        return np.exp(np.reshape(row["target_log_probs"], (row["num_frames"], num_classes)))
    max_count = {"topk": lambda k: int(k), "nucleus": lambda p, k: int(k), "sampled": lambda n: int(n)}.get(
        name, lambda head, n: int(head) + int(n)
    )(*numbers)
    width = 2 if min(max_count, num_classes) >= 256 else 1
    counts = [
        int.from_bytes(row["target_counts"][width * t : width * t + width], "little") for t in range(row["num_frames"])
    ]

    def number(column: str, index: int) -> int:
        planes = sorted(key for key in row if key.startswith(f"{column}_"))
        return sum(row[plane][index] << (8 * place) for place, plane in enumerate(planes))

    probs = np.zeros((row["num_frames"], num_classes))
    before: list[int] = []
    bit = new = entry = 0
    for t, count in enumerate(counts):
        carried = row["target_carried"]
        classes = [one for i, one in enumerate(before) if carried[(bit + i) // 8] >> ((bit + i) % 8) & 1]
        bit += len(before)
        last = -1
        while len(classes) < count:
            last, new = last + 1 + number("target_ids", new), new + 1
            classes.append(last)
        codes = [number("target_codes", entry + i) for i in range(count)]
        entry += count
        before = classes
        if name in ("topk", "nucleus"):
            probs[t, classes] = [math.exp(-code / 2048) for code in codes]
        elif name == "sampled":
            probs[t, classes] = [(code + 1) / int(numbers[0]) for code in codes]
        else:
            draws = int(numbers[1])
            left = 1 - sum((code + 1) / draws for code in codes if code < draws)
            probs[t, classes] = [
                (code + 1) / draws if code < draws else (code - draws + 1) / 64 * left for code in codes
            ]
    return probs


@given(
    codec=st.sampled_from(CODECS),
    lengths=st.lists(st.integers(0, 12), min_size=3, max_size=4),
    num_classes=st.sampled_from([2, 7, 256, 257, 400]),
    flatness=st.sampled_from([0.2, 1.0, 5.0]),
)
@settings(max_examples=40, deadline=None)
def test_the_page_is_enough_to_read_a_store(
    codec: str, lengths: list[int], num_classes: int, flatness: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("store")
    write_store(str(root), codec, lengths, num_classes, flatness=flatness)
    store = Store.open(str(root))
    for row, probs in zip(store.rows(["num_frames", *store.target_columns]), read_by_the_page(root), strict=True):
        np.testing.assert_allclose(store.targets(row).to_dense().exp(), probs, atol=1e-6)


def test_pandas_and_duckdb_open_it(tmp_path: Path) -> None:
    write_store(str(tmp_path), "hybrid:3:6", [4, 0, 7], 30)
    frame = pd.read_parquet(tmp_path / "shards", columns=["id", "num_frames", "target_counts"])
    assert list(frame["id"]) == ["u0", "u1", "u2"] and [len(one) for one in frame["target_counts"]] == [4, 0, 7]
    found = duckdb.sql(f"SELECT speaker, sum(num_frames) FROM '{tmp_path}/shards/*.parquet' GROUP BY 1 ORDER BY 1")
    assert found.fetchall() == [("s0", 11), ("s1", 0)]


def test_datasets_opens_it_with_playable_audio(tmp_path: Path) -> None:
    write_store(str(tmp_path / "store"), "hybrid:3:6", [4, 0, 7], 30)
    files = sorted(str(path) for path in (tmp_path / "store/shards").iterdir())
    opened = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert opened.column_names == pq.read_schema(files[0]).names and opened["id"][:] == ["u0", "u1", "u2"]
    assert opened.features["audio"] == datasets.Audio(sampling_rate=16000)
    # Decoding by `datasets` itself needs torchcodec and ffmpeg; the bytes are what it would decode.
    undecoded = opened.cast_column("audio", datasets.Audio(decode=False))
    samples, rate = soundfile.read(io.BytesIO(undecoded[2]["audio"]["bytes"]))
    assert rate == 16000 and len(samples) == undecoded[2]["num_samples"]
