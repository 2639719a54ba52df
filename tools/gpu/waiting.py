"""Trainings of `prove.py`: how long a device waits for the loader, and how fast it updates."""

from __future__ import annotations

import io
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import nn

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.losses.soft import soft_cross_entropy
from asrkd.models import EmformerStudent, LSTMStudent, TDNNStudent
from asrkd.store import Identity, Store, manifest
from asrkd.store.files import Files
from asrkd.store.writer import write_shard
from asrkd.streaming import Batch, Loader, Source
from asrkd.targets.codecs import parse_codec
from asrkd.targets.packed import as_stored
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import POSTERIORS

FRONT_END = FrontEnd(mean_norm="causal")


def write_store(root: Path, minutes: float, classes: int) -> None:
    """Noise as FLAC, with `topk:20` targets, in shards of some minutes."""
    rng, codec = np.random.default_rng(0), parse_codec("topk:20")
    units = Inventory(("SIL", *(f"s{number}" for number in range(1, classes))), "hmm")
    identity = Identity(
        teacher="t",
        teacher_fingerprint="0" * 32,
        streams={POSTERIORS: codec},
        inventory=units,
        front_end=FRONT_END,
        embed="audio",
    )
    layout = codec.layout(classes)
    noise = (0.1 * rng.standard_normal(16000 * 20)).astype(np.float32)
    scores = torch.from_numpy(rng.standard_normal((700, classes)).astype(np.float32) * 3).log_softmax(1)
    rows: list[dict[str, Any]] = []
    while sum(row["duration"] for row in rows) < 60 * minutes:
        count = int(16000 * rng.uniform(2, 15))
        stream = io.BytesIO()
        soundfile.write(stream, np.roll(noise, -int(rng.integers(len(noise))))[:count], 16000, format="FLAC")
        name, frames = f"u{len(rows)}", FRONT_END.frame_law().num_frames(count)
        row = {"id": name, "recording_id": name, "start": 0.0, "duration": count / 16000, "sampling_rate": 16000}
        row |= {"num_samples": count, "num_frames": frames, "audio": {"bytes": stream.getvalue(), "path": None}}
        rows.append(row | layout.pack(codec.encode(scores[:frames])))
    files, shards = Files(str(root)), max(1, int(minutes // 5))
    manifest.create(files, identity, {"num_units": shards, "num_cuts": len(rows), "hours": minutes / 60})
    for unit in range(shards):
        write_shard(files, unit, rows[unit::shards], identity)


class Updates:
    """Updates of a student by soft cross-entropy and AdamW, as a bare loop makes them."""

    def __init__(self, model: nn.Module, device: str, dtype: torch.dtype = torch.float32) -> None:
        self.device, self.dtype = torch.device(device), dtype
        self.model = model.to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def __call__(self, features: torch.Tensor, lengths: torch.Tensor, targets: SparseTargets) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits, frames = self.model(features, lengths)
        mask = torch.arange(logits.shape[1], device=self.device)[None] < frames[:, None]
        (soft_cross_entropy(logits[mask].float(), targets) / int(mask.sum())).backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def share_of_waiting(folder: Path, device: str, workers: int, on_device: bool, quick: bool) -> tuple[float, float]:
    """The share of the time that updates wait for the next batch, and frames a second.

    Args:
        folder: where the store is, or is made.
        on_device: whether targets and features come to the device as stored and as samples.
    """
    classes, width, layers, count = (60, 16, 1, 4) if quick else (3183, 768, 5, 60)
    root = folder / "store"
    if not root.exists():
        write_store(root, 1 if quick else 30, classes)
    loader = Loader(
        {"s": Source("s", Store.open(str(root)))},
        front_end=FRONT_END,
        max_frames=500 if quick else 20_000,
        max_utterances=64,
        num_workers=0 if quick else workers,
        cache_mb=0,
        unpack_on_device=on_device,
        features_on_device=on_device,
        pin_memory=device.startswith("cuda"),
    )
    update = Updates(LSTMStudent(FRONT_END.feature_dim, classes, hidden_dim=width, num_layers=layers), device)
    steps, waited, worked, frames = loader.steps({"s": 1}), 0.0, 0.0, 0
    try:
        for number in itertools.count():
            began = time.perf_counter()
            batches: list[Batch] = next(steps)
            there = time.perf_counter()
            for batch in batches:
                moved = batch.to(device)
                update(moved.features, moved.feature_lengths, moved.targets)  # type: ignore[arg-type]
            if number >= 2:  # the first ones choose kernels and start workers
                waited, worked = waited + there - began, worked + time.perf_counter() - there
                frames += sum(int(batch.num_frames.sum()) for batch in batches)
            if number + 1 == count:
                break
    finally:
        steps.close()  # type: ignore[attr-defined]
        loader.close()
    return waited / (waited + worked), frames / (waited + worked)


def update_speeds(device: str, quick: bool, is_compiled: bool) -> list[tuple[str, str, bool]]:
    """Of each student its name, frames a second in each precision, and whether all ran; `is_compiled`: through torch.compile."""
    classes, utterances, frames, turns = (60, 2, 64, 2) if quick else (3183, 32, 300, 8)
    students: dict[str, Any] = {
        "the study's LSTM": lambda: LSTMStudent(
            192, classes, hidden_dim=32 if quick else 768, num_layers=1 if quick else 5
        ),
        "a TDNN": lambda: TDNNStudent(192, classes, hidden_dim=32 if quick else 512),
        "an Emformer": lambda: EmformerStudent(192, classes),
    }
    if quick:
        students = {"a TDNN": students["a TDNN"]}
    ways = {"float32": torch.float32, "bf16": torch.bfloat16}
    found = []
    for name, make in students.items():
        said, fine = [], True
        for way, dtype in ways.items():
            try:
                said.append(
                    f"{way} {_speed(make(), device, dtype, is_compiled, classes, utterances, frames, turns):,.0f}"
                )
            except Exception as error:  # of kernels, drivers and compilers
                said, fine = (
                    [*said, f"{way} failed ({type(error).__name__}: {' '.join(str(error).split())[:120]})"],
                    False,
                )
        found.append((name, ", ".join(said), fine))
    return found


def _speed(
    model: nn.Module,
    device: str,
    dtype: torch.dtype,
    is_compiled: bool,
    classes: int,
    utterances: int,
    frames: int,
    turns: int,
) -> float:
    update = Updates(
        torch.compile(model, backend="inductor" if device.startswith("cuda") else "eager") if is_compiled else model,
        device,
        dtype,
    )  # type: ignore[arg-type]
    features = torch.randn(utterances, frames, 192, device=device)
    lengths = torch.full((utterances,), frames, device=device)
    scores = (3 * torch.randn(utterances * frames, classes)).log_softmax(1)
    targets = as_stored(parse_codec("topk:20"), scores).map(lambda one: one.to(device))
    for _ in range(2):
        update(features, lengths, targets)
    began = time.perf_counter()
    for _ in range(turns):
        update(features, lengths, targets)
    return utterances * frames * turns / (time.perf_counter() - began)
