"""Codecs and how others store posteriors, side by side: bytes, distance from the dense posteriors, gradients, speed.

    python tools/benchmarks/codecs.py POSTERIORS.npz

POSTERIORS is made by `tools/benchmarks/posteriors.py`. For every codec a real store is written (without audio) and read again;
for the schemes of others (`peers.py`) their columns, in Parquet as well.

- B/frame: all files of the store over its frames, names of units and footers and statistics included; targets: the packed
  columns alone.
- KL: of the dense distribution from the stored one, what is missing (at least 1e-6) spread evenly over the classes that are not
  kept; infinite for samples, which leave out classes with probability. Reverse KL: of the stored one, renormalised, from the dense one.
- TV: total variation, the stored one renormalised.
- angle, norm: between the gradients of cross-entropy with respect to the output layer for stored (renormalised) and for dense
  targets, on one batch of 4,096 frames; the norm of the one over that of the other. The layer's input is the classifier's (256
  features) and a bias; student logits are the teacher's / 2 + Gaussian noise of deviation 1.
- variance: of that gradient over draws of the targets, over the square of the dense gradient's norm; of unbiased codecs.
- choose, pack, unpack: thousands of frames a second on one core (CPU time, best of 3): posteriors to kept classes (64 utterances at a
  time, as a batch is labeled; all V classes of a frame are read; on the teacher's device in production), kept classes to bytes, bytes to
  CSR arrays (64 utterances at a time, as the loader does with a batch's). A line says what else a core does with posteriors in that time, measured in the same run: reading them once
  (their largest value, the limit by memory), `torch.exp` of them, and `torch.topk` of 20, without which there is no top-20.

The second table is about a student close to the teacher (noise 0.5 on the teacher's logits), where any single batch is far off:
the angle of the mean gradient over 1, 4, 16 and 64 draws of the targets. An unbiased codec goes to 0, others stay.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from peers import PEERS
from torch import Tensor

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.report.tables import text_table
from asrkd.store import Store, manifest
from asrkd.store.files import Files
from asrkd.store.identity import Identity
from asrkd.store.inspect import store_statistics
from asrkd.store.writer import COMPRESSION_LEVEL, write_shard
from asrkd.targets.codecs import PosteriorCodec, parse_codec
from asrkd.targets.packed import as_stored
from asrkd.targets.random import frame_keys
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import POSTERIORS

BATCH = 4096
DRAWS = (1, 4, 16, 64)
TOGETHER = 64
CODECS = ("topk:20", "topk:8", "nucleus:0.95:64", "sampled:16", "sampled:22", "sampled:50")
CODECS += ("hybrid:0:12", "hybrid:0:16", "hybrid:0:24", "hybrid:4:8", "hybrid:4:16")


@dataclass(frozen=True)
class Stored:
    """What became of the posteriors: bytes a frame in all and of the targets, speeds, what is read, and a way to draw again."""

    all_bytes: float
    target_bytes: float
    speeds: Sequence[float]
    targets: list[SparseTargets]
    draw: Callable[[int], SparseTargets]
    unbiased: bool


def perplexities(log_probs: Tensor) -> tuple[float, float]:
    """Of the mean entropy, and the mean over frames of each frame's own."""
    entropy = torch.cat([-torch.special.xlogy(part.exp(), part.exp()).sum(1) for part in log_probs.split(4096)])
    return float(entropy.mean().exp()), float(entropy.exp().mean())


def sharpened(log_probs: Tensor, perplexity: float, *, of_frames: bool = False) -> Tensor:
    """Log-posteriors at the temperature at which the perplexity of the mean entropy, or the mean over frames, is this (by bisection)."""
    low, high = 0.05, 20.0
    for _ in range(30):
        scale = (low * high) ** 0.5
        found = perplexities((log_probs[::7] * scale).log_softmax(1))[of_frames]
        low, high = (scale, high) if found > perplexity else (low, scale)
    return (log_probs * low).log_softmax(1)


def renormalised(targets: SparseTargets) -> Tensor:
    """(T, V) stored probabilities that sum to 1."""
    probs = targets.to_dense().exp()
    return probs / probs.sum(1, keepdim=True)


def angle(found: Tensor, truth: Tensor) -> float:
    """Degrees between two gradients."""
    cosine = (found * truth).sum() / found.norm() / truth.norm()
    return float(torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))))


def references(parts: list[Tensor]) -> str:
    """What one core does with posteriors by torch alone, in blocks that stay in its cache."""
    blocks = [block for part in parts for block in part.split(128)]
    works = {
        "reading them once": lambda: [block.amax(1) for block in blocks],
        "torch.exp": lambda: [block.exp() for block in blocks],
        "torch.topk of 20": lambda: [block.topk(20, dim=1) for block in blocks],
    }
    frames = sum(len(part) for part in parts)
    return ", ".join(f"{name} {frames / best_of(3, work) / 1e3:.0f}" for name, work in works.items())


def kl(of: Tensor, given: Tensor) -> float:
    """Kullback-Leibler divergence in nats, mean over frames, with 0 log 0 = 0."""
    return float((torch.special.xlogy(of, of) - torch.special.xlogy(of, given)).sum(1).mean())


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


def by_codec(codec: PosteriorCodec, parts: list[Tensor]) -> Stored:
    """A real store, written and read."""
    with tempfile.TemporaryDirectory() as folder:
        front_end = FrontEnd()
        law = front_end.frame_law()
        units = tuple(f"unit-{number}" for number in range(parts[0].shape[1]))
        identity = Identity("benchmark", "0" * 32, {POSTERIORS: codec}, Inventory(units, "hmm"), front_end)
        frames = sum(len(part) for part in parts)
        names = [f"utterance-{number:05d}" for number in range(len(parts))]
        keys = [keys_of(name, len(part)) for name, part in zip(names, parts, strict=True)]
        together = [
            (torch.cat(parts[at : at + TOGETHER]), torch.cat(keys[at : at + TOGETHER]))
            for at in range(0, len(parts), TOGETHER)
        ]
        choosing = best_of(3, lambda: [codec.encode(*batch) for batch in together])
        entries = [codec.encode(part, key) for part, key in zip(parts, keys, strict=True)]
        layout = codec.layout(parts[0].shape[1])
        packing = best_of(3, lambda: [layout.pack(one) for one in entries])
        rows = []
        for number, (name, part) in enumerate(zip(names, parts, strict=True)):
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
                | layout.pack(entries[number])
            )
        write_shard(Files(folder), 0, rows, identity)
        manifest.create(Files(folder), identity, {"num_units": 1, "num_cuts": len(parts), "hours": 0.0})
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        store = Store.open(folder)
        read = list(store.rows(["num_frames", *store.target_columns]))
        batches = [read[at : at + TOGETHER] for at in range(0, len(read), TOGETHER)]
        unpacking = best_of(3, lambda: [store.stream(POSTERIORS, batch) for batch in batches])
        sizes = store_statistics(Store.open(folder))["bytes_per_frame"]
        return Stored(
            size / frames,
            sum(value for name, value in sizes.items() if name.startswith("target_")),
            [frames / seconds / 1e3 for seconds in (choosing, packing, unpacking)],
            [store.targets(row) for row in read],
            lambda draw: as_stored(codec, torch.cat(parts)[:BATCH], keys_of(f"draw-{draw}", BATCH)),
            codec.unbiased,
        )


def by_peer(name: str, parts: list[Tensor]) -> Stored:
    """The columns of another scheme, one row an utterance."""
    store = PEERS[name]
    generator = torch.Generator().manual_seed(0)
    stored = [store(part, generator) for part in parts]
    names = list(stored[0][0])
    table = pa.table({column: pa.array([columns[column] for columns, _ in stored], pa.binary()) for column in names})
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=False,
        column_encoding=dict.fromkeys(names, "DELTA_LENGTH_BYTE_ARRAY"),
    )
    size = sink.getvalue().size / sum(len(part) for part in parts)
    batch = torch.cat(parts)[:BATCH]
    return Stored(
        size,
        size,
        (),
        [targets for _, targets in stored],
        lambda draw: store(batch, torch.Generator().manual_seed(draw))[1],
        name.startswith("plain sampling"),
    )


@click.command(context_settings={"show_default": True})
@click.argument("posteriors", type=click.Path(exists=True, path_type=Path))
@click.option("--codec", "codecs", multiple=True, default=CODECS, help="Codec spec; may be given again.")
@click.option(
    "--perplexity",
    default=0.0,
    help="Sharpen the posteriors to this perplexity of the mean entropy; 0 leaves them as they are.",
)
@click.option("--mean-perplexity", default=0.0, help="The same, of the mean over frames of each frame's perplexity.")
@click.option("--frames", default=1_000_000, help="Frames to use, at most.")
def main(posteriors: Path, codecs: tuple[str, ...], perplexity: float, mean_perplexity: float, frames: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    loaded = np.load(posteriors)
    ends = [int(end) for end in loaded["row_splits"] if end <= max(frames, BATCH)]
    log_probs = torch.from_numpy(loaded["log_probs"][: ends[-1]])
    if perplexity or mean_perplexity:
        log_probs = sharpened(log_probs, perplexity or mean_perplexity, of_frames=not perplexity)
    parts = [log_probs[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    probs = log_probs[:BATCH].exp()
    hidden = torch.cat([torch.from_numpy(loaded["hidden"][:BATCH]), torch.ones(BATCH, 1)], 1)
    student = (log_probs[:BATCH] / 2 + torch.randn(probs.shape)).softmax(1)
    near = (log_probs[:BATCH] + 0.5 * torch.randn(probs.shape)).softmax(1)
    truth, near_truth = hidden.T @ (student - probs), hidden.T @ (near - probs)
    of_mean, of_frames = perplexities(log_probs)
    click.echo(
        f"{len(log_probs)} frames of {len(parts)} utterances, {log_probs.shape[1]} classes, perplexity {of_mean:.1f} "
        f"(of the mean entropy; mean over frames {of_frames:.1f})\n"
    )
    rows, near_rows = [], []
    for name in (*PEERS, *codecs):
        stored = by_peer(name, parts) if name in PEERS else by_codec(parse_codec(name), parts)
        forward, backward, distance = [], [], []
        for targets, part in zip(stored.targets, parts, strict=True):
            dense, kept = part.exp(), targets.to_dense().exp()
            left = 0.0 if stored.unbiased else (1 - kept.sum(1, keepdim=True)).clamp_min(1e-6)
            rest = left / (kept == 0).sum(1, keepdim=True).clamp_min(1)
            forward.append(len(part) * kl(dense, torch.where(kept > 0, kept, rest)))
            backward.append(len(part) * kl(renormalised(targets), dense))
            distance.append((renormalised(targets) - dense).abs().sum() / 2)
        batch = torch.cat([renormalised(targets) for targets in stored.targets[:BATCH]])[:BATCH]
        gradient = hidden.T @ (student - batch)
        mean, variance, near_angles = torch.zeros_like(truth), [], []
        for draw in range(1, DRAWS[-1] + 1 if stored.unbiased else 2):
            again = renormalised(stored.draw(draw))
            mean += hidden.T @ (near - again)
            variance.append(float((hidden.T @ (student - again) - truth).norm() / truth.norm()) ** 2)
            if draw in DRAWS:
                near_angles.append(angle(mean, near_truth))
        near_angles += near_angles[-1:] * (len(DRAWS) - len(near_angles))
        cells = [f"{stored.all_bytes:.1f}", f"{stored.target_bytes:.1f}"]
        cells.append(f"{sum(len(one.ids) for one in stored.targets) / len(log_probs):.1f}")
        cells += [f"{float(sum(one)) / len(log_probs):.3f}" for one in (forward, backward, distance)]
        cells += [f"{angle(gradient, truth):.1f}", f"{float(gradient.norm() / truth.norm()):.3f}"]
        cells.append(f"{np.mean(variance):.5f}" if stored.unbiased else "-")
        cells += [f"{speed:.0f}" for speed in stored.speeds] or ["-"] * 3
        rows.append([name, *cells])
        near_rows.append([name, *(f"{value:.1f}" for value in near_angles)])
        click.echo(" ".join(rows[-1] + near_rows[-1][1:]), err=True)
    columns = ["codec", "B/frame", "targets", "entries", "KL", "reverse KL", "TV", "angle", "norm", "variance"]
    click.echo(text_table([*columns, "choose", "pack", "unpack"], rows))
    click.echo(f"\nThousands of frames a second with torch alone: {references(parts)}.")
    click.echo("\n" + text_table(["codec", *(f"{count} draws" for count in DRAWS)], near_rows))


if __name__ == "__main__":
    main()
