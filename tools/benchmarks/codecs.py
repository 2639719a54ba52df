"""Codecs side by side: bytes on disk, distance from the dense posteriors, gradient angle, speed.

    python tools/benchmarks/codecs.py POSTERIORS.npz --codec hybrid:0:16 --codec topk:20

POSTERIORS is made by `tools/benchmarks/posteriors.py`. Its posteriors are sharpened until the mean perplexity of a frame is
`--perplexity`. For every codec a real store is written (no audio) and read again:

- B/frame: all files of the store over its frames; targets: the packed columns alone. The difference, names of units above
  all, is per shard and store, and vanishes in stores of millions of frames.
- TV: total variation between the dense and the stored distribution, mean over frames; missing mass counts as lost.
- angle, norm: between the gradients of cross-entropy with respect to the output layer for stored and for dense targets, on
  one batch of 4,096 frames; the norm of the one over that of the other. Hidden features: 256 principal components of the
  classifier's logits, whose span is that of its last hidden layer, with their own spread (angle) or whitened, and a bias.
  Student logits: the teacher's / 2 + Gaussian noise of deviation 1. `topk` and `nucleus` are renormalised, as in training.
- mean: the angle of the gradient averaged over 64 independent draws of the targets (keys) at a student close to the teacher
  (noise 0.5 on the teacher's logits): an unbiased codec goes to 0, others stay where they are.
- choose, pack, unpack: thousands of frames a second on one core (CPU time, best of 3): posteriors to kept classes (all V
  classes of a frame are read; on a GPU in production), kept classes to bytes, bytes to CSR arrays.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from asrkd.corpus.front_end import FrontEnd
from asrkd.report.tables import text_table
from asrkd.store import Store, manifest
from asrkd.store.identity import Identity
from asrkd.store.inspect import statistics
from asrkd.store.writer import write_shard
from asrkd.targets.codecs import Codec, as_stored, parse_codec
from asrkd.targets.random import frame_keys
from asrkd.targets.soft_targets import SoftTargets

BATCH = 4096
DEFAULT = (
    "topk:20",
    "nucleus:0.95:64",
    "sampled:22",
    "sampled:50",
    "hybrid:0:12",
    "hybrid:0:16",
    "hybrid:0:24",
    "hybrid:4:8",
)
DEFAULT += ("hybrid:4:16",)


def sharpened(log_probs: Tensor, perplexity: float) -> Tensor:
    """Log-posteriors at the temperature at which the mean perplexity of a frame is `perplexity` (by bisection)."""
    low, high = 0.05, 20.0
    for _ in range(30):
        scale = (low * high) ** 0.5
        found = (log_probs[::7] * scale).log_softmax(1)
        entropy = -torch.special.xlogy(found.exp(), found.exp()).sum(1)
        low, high = (scale, high) if entropy.exp().mean() > perplexity else (low, scale)
    return (log_probs * low).log_softmax(1)


def dense(targets: SoftTargets) -> Tensor:
    """(T, V) stored probabilities, renormalised."""
    probs = torch.from_numpy(targets.to_dense()).exp()
    return probs / probs.sum(1, keepdim=True)


def compare(found: Tensor, truth: Tensor) -> tuple[float, float]:
    """Angle in degrees between two gradients, and the ratio of their norms."""
    cosine = (found * truth).sum() / found.norm() / truth.norm()
    return float(torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))), float(found.norm() / truth.norm())


def keys_of(name: str, frames: int) -> Tensor:
    return frame_keys(name, "benchmark", frames, torch.device("cpu"))


def best_of(count: int, work: Callable[[], object]) -> float:
    """Seconds of CPU time."""
    found = []
    for _ in range(count):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def store_bytes(codec: Codec, parts: list[Tensor], folder: str) -> tuple[float, float, list[float], list[SoftTargets]]:
    """Bytes a frame in all and of the targets, frames a second of choosing, packing and unpacking, and what comes back."""
    front_end = FrontEnd()
    law = front_end.frame_law()
    units = tuple(f"unit-{number}" for number in range(parts[0].shape[1]))
    identity = Identity("benchmark", "0" * 64, codec.spec, "hmm", units, 1, front_end.to_dict())
    frames = sum(len(part) for part in parts)
    names = [f"utterance-{number:05d}" for number in range(len(parts))]
    began = time.process_time()
    entries = [codec.encode(part, keys_of(name, len(part))) for name, part in zip(names, parts, strict=True)]
    choosing = time.process_time() - began
    packing = best_of(3, lambda: [codec.pack(one) for one in entries])
    rows = []
    for number, (name, part) in enumerate(zip(names, parts, strict=True)):
        packed = codec.pack(entries[number])
        samples = law.window + law.shift * (front_end.stride * len(part) - 1)
        rows.append(
            {
                "id": name,
                "recording_id": name,
                "start": 0.0,
                "duration": samples / front_end.sampling_rate,
                "sampling_rate": front_end.sampling_rate,
                "num_samples": samples,
                "num_frames": len(part),
                "speaker": f"speaker-{number % 10}",
                "kept_mass": 1.0,
                "entropy": float(-torch.special.xlogy(part.exp(), part.exp()).sum(1).mean()),
                "confidence": float(part.max(1).values.exp().mean()),
            }
            | packed
        )
    write_shard(folder, 0, rows, identity)
    manifest.create(folder, identity, {"num_units": 1, "num_cuts": len(parts), "hours": 0.0})
    size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    store = Store.open(folder)
    read = list(store.rows(["num_frames", *store.target_columns]))
    unpacking = best_of(3, lambda: [store.targets(row) for row in read])
    speeds = [frames / seconds / 1e3 for seconds in (choosing, packing, unpacking)]
    packed = sum(value for name, value in statistics(folder)["bytes_per_frame"].items() if name.startswith("target_"))
    return size / frames, packed, speeds, [store.targets(row) for row in read]


@click.command(context_settings={"show_default": True})
@click.argument("posteriors", type=click.Path(exists=True, path_type=Path))
@click.option("--codec", "codecs", multiple=True, default=DEFAULT, help="Codec spec; may be given again.")
@click.option("--perplexity", default=11.0, help="Mean perplexity of a frame.")
@click.option("--frames", default=20_000, help="Frames to use.")
@click.option("--mean-of", default=64, help="Draws that are averaged for the column 'mean'.")
def main(posteriors: Path, codecs: tuple[str, ...], perplexity: float, frames: int, mean_of: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    loaded = np.load(posteriors)
    ends = [int(end) for end in loaded["row_splits"] if end <= max(frames, BATCH)]
    raw = torch.from_numpy(loaded["log_probs"][: ends[-1]])
    log_probs = sharpened(raw, perplexity)
    parts = [log_probs[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    probs = log_probs[:BATCH].exp()
    _, _, axes = torch.pca_lowrank(raw[:BATCH] - raw[:BATCH].mean(1, keepdim=True), q=256)
    hidden = (raw[:BATCH] - raw[:BATCH].mean(1, keepdim=True)) @ axes
    bias = torch.ones(BATCH, 1)
    own = torch.cat([hidden / hidden[:, 0].std(), bias], 1)
    white = torch.cat([(hidden - hidden.mean(0)) / hidden.std(0), bias], 1)
    student = (log_probs[:BATCH] / 2 + torch.randn(probs.shape)).softmax(1)
    near = (log_probs[:BATCH].clamp_min(-30) + 0.5 * torch.randn(probs.shape)).softmax(1)
    click.echo(
        f"{len(log_probs)} frames of {len(parts)} utterances, {log_probs.shape[1]} classes, perplexity {perplexity}"
    )
    rows = []
    for spec in codecs:
        codec = parse_codec(spec)
        with tempfile.TemporaryDirectory() as folder:
            size, of_targets, speeds, targets = store_bytes(codec, parts, folder)
        entries = sum(len(one.ids) for one in targets) / len(log_probs)
        lost = [
            (torch.from_numpy(one.to_dense()).exp() - part.exp()).abs().sum(1) / 2
            for one, part in zip(targets, parts, strict=True)
        ]
        stored = torch.cat([dense(one) for one in targets[: BATCH // 20]])[:BATCH]
        angle, norm = compare(own.T @ (student - stored), own.T @ (student - probs))
        white_angle, _ = compare(white.T @ (student - stored), white.T @ (student - probs))
        mean = torch.zeros_like(own.T @ near)
        for draw in range(mean_of if codec.unbiased else 1):
            again = dense(as_stored(codec, log_probs[:BATCH], keys_of(f"draw-{draw}", BATCH)))
            mean += own.T @ (near - again)
        mean_angle, _ = compare(mean, own.T @ (near - probs))
        cells = [
            f"{size:.1f}",
            f"{of_targets:.1f}",
            f"{entries:.1f}",
            f"{torch.cat(lost).mean():.3f}",
            f"{angle:.1f}",
            f"{norm:.3f}",
        ]
        cells += [f"{white_angle:.1f}", f"{mean_angle:.1f}", *(f"{speed:.0f}" for speed in speeds)]
        rows.append([spec, *cells])
        click.echo(" ".join(rows[-1]), err=True)
    columns = [
        "codec",
        "B/frame",
        "targets",
        "entries",
        "TV",
        "angle",
        "norm",
        "angle, white",
        "mean",
        "choose",
        "pack",
        "unpack",
    ]
    click.echo(text_table(columns, rows))


if __name__ == "__main__":
    main()
