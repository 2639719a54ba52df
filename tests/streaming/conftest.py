from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from stream_helpers import FRONT_END

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.store import manifest
from asrkd.store.embedding import parse_embedding
from asrkd.store.files import Files
from asrkd.store.identity import Identity
from asrkd.store.row_groups import RowGroups
from asrkd.store.writer import write_shard
from asrkd.targets.codecs import parse_codec
from asrkd.targets.streams import POSTERIORS

UNITS = ("SIL", "a_0", "b_0")


def flac(samples: np.ndarray, rate: int = 8000) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., str]:
    """Writes a store of random speech; row `i` of the corpus depends only on (prefix, i)."""

    def make(
        prefix: str = "u",
        *,
        rows: int = 20,
        shards: int = 2,
        soft: bool = True,
        embed: str = "audio",
        front_end: FrontEnd = FRONT_END,
        units: tuple[str, ...] = UNITS,
        codec: str = "dense",
        change: Callable[[int, dict[str, Any]], None] | None = None,
    ) -> str:
        root = str(tmp_path / f"{prefix}-{len(list(tmp_path.iterdir()))}")
        identity = Identity(
            teacher="checkpoint:t.pt" if soft else "",
            teacher_fingerprint="0" * 32 if soft else "",
            streams={POSTERIORS: parse_codec(codec)} if soft else {},
            inventory=Inventory(units, "hmm") if soft else None,
            front_end=front_end,
            subsampling_factor=1,
            embed=embed,
            # Small enough that tests have several in a shard.
            row_groups=RowGroups(64, 1 << 20),
        )
        manifest.create(Files(root), identity, {"num_units": shards, "num_cuts": rows, "hours": 0.0})
        every = [_row(prefix, number, soft, embed, front_end, len(units)) for number in range(rows)]
        for number, row in enumerate(every):
            if change:
                change(number, row)
        for unit, part in enumerate(np.array_split(np.arange(rows), shards)):
            write_shard(Files(root), unit, [every[number] for number in part], identity)
        return root

    return make


@pytest.fixture
def roots(make_store: Callable[..., str]) -> dict[str, str]:
    """A store with soft targets and a smaller one with transcripts."""
    return {"soft": make_store("u", rows=23), "labeled": make_store("l", rows=9, shards=1, soft=False)}


def _row(prefix: str, number: int, soft: bool, embed: str, front_end: FrontEnd, classes: int) -> dict[str, Any]:
    rng = np.random.default_rng([number, *prefix.encode()])
    num_samples = int(rng.integers(800, 4000))
    samples = np.round(rng.standard_normal(num_samples) * 3000).clip(-32768, 32767).astype(np.int16)
    frames = front_end.frame_law().num_frames(num_samples)
    row: dict[str, Any] = {
        "id": f"{prefix}{number}",
        "recording_id": f"r{number}",
        "start": 0.0,
        "duration": num_samples / 8000,
        "sampling_rate": 8000,
        "num_samples": num_samples,
        "num_frames": frames,
        "speaker": f"s{number % 3}",
        "text": None if soft else f"text {number}",
        "custom": json.dumps({"number": number}),
        "alignment": None if soft else rng.integers(0, classes, frames).astype(np.int32),
        "kept_mass": 1.0 if soft else None,
        "entropy": 0.5 if soft else None,
        "confidence": number / 100 if soft else None,
    }
    features = front_end(torch.from_numpy(samples / np.float32(32768))).numpy()
    row |= parse_embedding(embed).columns(row["id"], samples, features, front_end)
    if soft:
        scores = torch.from_numpy(rng.standard_normal((frames, classes)).astype(np.float32))
        codec = parse_codec("dense")
        row.update(codec.layout(classes).pack(codec.encode(scores.log_softmax(dim=-1))))
    return row
