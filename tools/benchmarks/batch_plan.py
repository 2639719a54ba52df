"""The batch plan of a large epoch: time to resume, padding, quality of the shuffle; and memory over an epoch of a real store.

    python tools/benchmarks/batch_plan.py [--rows 10000000] [--plot memory.png]

- resume: from nothing to the first key, at 1 % and at 99 % of an epoch, next to planning the whole epoch at once (what a loader does that
  sorts or permutes a whole epoch).
- padding: share of the padded frames, utterances of 1 to 30 s, next to batches of random utterances.
- shuffle: how far apart in the corpus two neighbors in a batch are, as a share of the corpus; a full permutation gives 1/3 in the mean.
  And how many distinct tenths of the corpus 20 batches in a row touch.
- memory: resident memory of a process that reads an epoch with one worker's cache, every 20 batches.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import psutil

from asrkd.store import Store
from asrkd.streaming.mixture import endless
from asrkd.streaming.plan import BatchConfig, EpochOrder
from asrkd.streaming.sampler import Position, Sampler, SamplerProgress

GROUP = 64
FRAMES_A_SECOND = 100 / 3
BUDGET = 10_000


def index(rows: int) -> tuple[Any, np.ndarray]:
    """What the sampler knows of a source of `rows` utterances of 1 to 30 s in row groups of 64, and their lengths."""
    lengths = (np.random.default_rng(0).uniform(1, 30, rows) * FRAMES_A_SECOND).astype(np.int32)
    sizes = np.full(rows // GROUP, GROUP)
    source = SimpleNamespace(
        group_sizes=sizes, fingerprint="0123456789abcdef" * 2, repeat=True, places=lambda batch: batch.tolist()
    )
    return source, lengths[: int(sizes.sum())]


def resume(rows: int, share: float, streams: int) -> float:
    """Seconds from the index to the first key."""
    source, lengths = index(rows)
    limits = BatchConfig(BUDGET, 512, streams=streams)
    blocks = EpochOrder(source.group_sizes, limits, seed=0, epoch=0, fingerprint=source.fingerprint).num_blocks(0)
    at = SamplerProgress(1000, {"s": (Position(0, int(share * blocks), 3),) * streams}, (False,) * streams)
    began = time.perf_counter()
    sampler = Sampler({"s": source}, {"s": lengths}, {"s": lengths}, limits, seed=0)
    next(sampler.steps(endless({"s": 1}), at))
    return time.perf_counter() - began


def whole_epoch(rows: int) -> float:
    """Seconds to sort and permute a whole epoch."""
    _, lengths = index(rows)
    began = time.perf_counter()
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(len(lengths))
    np.argsort(lengths[shuffled] * rng.uniform(0.97, 1.03, len(lengths)))
    return time.perf_counter() - began


def batches_of(rows: int, most: int, block: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Batches from the beginning of an epoch, and the lengths."""
    source, lengths = index(rows)
    limits = BatchConfig(BUDGET, 512, block_utterances=block)
    order = EpochOrder(source.group_sizes, limits, seed=0, epoch=0, fingerprint=source.fingerprint)
    found: list[np.ndarray] = []
    for number in range(order.num_blocks(0)):
        found += order.batches(0, number, lengths)
        if len(found) >= most:
            break
    return found, lengths


def padding(batches: list[np.ndarray], lengths: np.ndarray) -> float:
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / padded


def distance(batches: list[np.ndarray], rows: int) -> float:
    """Mean distance in the corpus of neighbors in a batch, as a share of the corpus."""
    return float(np.mean(np.concatenate([np.abs(np.diff(batch)) for batch in batches if len(batch) > 1]))) / rows


def spread(batches: list[np.ndarray], rows: int) -> float:
    """Distinct hundredths of the corpus in 20 batches in a row."""
    windows = [np.concatenate(batches[start : start + 20]) for start in range(0, len(batches) - 20, 20)]
    return float(np.mean([len(np.unique(window * 100 // rows)) for window in windows]))


def memory(utterances: int, plot: str) -> tuple[float, float]:
    """MB of growth in the second half of an epoch over the first, and at the most; drawn if `plot` is given."""
    import loading

    from asrkd.streaming.loader import Loader
    from asrkd.streaming.source import Source

    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as name:
        loading.write_asrkd(Path(name) / "store", "audio", utterances)
        source = Source("s", Store.open(f"{name}/store"))
        loader = Loader(
            {"s": source},
            front_end=loading.FRONT_END,
            max_frames=BUDGET,
            max_utterances=64,
            cache_mb=16,
            block_utterances=256,
        )
        process, points = psutil.Process(), []
        steps = loader.steps({"s": 1})
        total = len(list(loader.sampler.epoch("s", 0)))
        for number in range(2 * total):
            next(steps)
            points.append((number / total, process.memory_info().rss / 1e6))
        loader.close()
    epochs, used = np.array(points).T
    used -= used[epochs >= 0.1][0]
    if plot:
        draw(epochs, used, plot)
    return float(used[epochs >= 1].mean() - used[(epochs >= 0.1) & (epochs < 1)].mean()), float(used.max())


def draw(epochs: np.ndarray, used: np.ndarray, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 2.6), layout="constrained")
    axes.plot(epochs, used, linewidth=1)
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.set(
        xlabel="epochs read", ylabel="MB above that at 0.1 epochs", ylim=(min(-50, used.min()), max(150, used.max()))
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


@click.command(context_settings={"show_default": True})
@click.option("--rows", default=10_000_000)
@click.option("--utterances", default=600, help="Utterances of the store whose reading is watched.")
@click.option("--plot", default="", help="A picture of the memory over two epochs.")
def main(rows: int, utterances: int, plot: str) -> None:
    """Print what the module says."""
    for streams in (1, 8):
        early, late = (min(resume(rows, share, streams) for _ in range(3)) for share in (0.01, 0.99))
        click.echo(f"resume, {rows:,} rows, {streams} streams: {early:.2f} s at 1 %, {late:.2f} s at 99 % of the epoch")
    click.echo(f"  sorting and permuting the whole epoch: {whole_epoch(rows):.2f} s")
    small = min(rows, 1_000_000)
    for block in (512, 2048, 8192):
        batches, lengths = batches_of(small, 2000, block)
        rng = np.random.default_rng(1)
        full = np.split(rng.permutation(small), np.cumsum([len(batch) for batch in batches])[:-1])[:-1]
        full = [batch for batch in full if len(batch)]
        click.echo(
            f"blocks of {block}: padding {100 * padding(batches, lengths):.1f} % (random batches {100 * padding(full, np.resize(lengths, small)):.0f} %), "
            f"distance of neighbors {distance(batches, small):.3f} of the corpus (full permutation {distance(full, small):.3f}), "
            f"hundredths of the corpus in 20 batches {spread(batches, small):.0f} ({spread(full, small):.0f})"
        )
    growth, most = memory(utterances, plot)
    click.echo(f"memory: second epoch {growth:+.1f} MB over the first; most {most:.1f} MB above that at 0.1 epochs")


if __name__ == "__main__":
    main()
