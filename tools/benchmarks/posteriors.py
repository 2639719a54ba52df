"""Posteriors to measure codecs on: a small frame classifier over clustered units, trained on noisy speech, on noisy speech held back.

    python tools/benchmarks/posteriors.py --train CUTS --held-back CUTS --noise FOLDER --held-back-noise FOLDER OUT

Units are k-means clusters of clean, mean-subtracted log-mel frames (30 ms), a substitute for senones, and numbered as the leaves of a tree. The classifier is a feed-forward network
over a window of frames, as hybrid systems have had (Hinton et al. 2012); its input is always noisy, so that its posteriors are as flat as those
of a teacher on hard audio. OUT is an .npz: `log_probs` (frames, V) float32, `hidden` (frames, 256) float32, the input of the classifier's
output layer, and `row_splits`, the frame at which each utterance begins.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from asrkd.corpus.audio import read_audio
from asrkd.corpus.augment import NoiseAugment, load_noises, utterance_rng
from asrkd.corpus.cuts import open_cuts
from asrkd.corpus.front_end import FrontEnd

FRONT_END = FrontEnd()
BATCH_FRAMES = 4096
# Frames on each side that the classifier sees.
CONTEXT = 3
# Features of the output layer; with a bias 257.
HIDDEN = 256


def read(path: Path) -> tuple[list[str], list[np.ndarray]]:
    """Ids and samples of every cut."""
    cuts = list(open_cuts(str(path)))
    return [cut.id for cut in cuts], [read_audio(cut, FRONT_END.sampling_rate) for cut in cuts]


def features_of(samples: np.ndarray) -> Tensor:
    return FRONT_END(torch.from_numpy(samples))


def principal_axes(frames: Tensor, dim: int) -> Tensor:
    """(F, dim) whitening projection onto the largest principal axes."""
    values, vectors = torch.linalg.eigh(torch.cov(frames.T))
    return vectors[:, -dim:] / values[-dim:].clamp_min(1e-6).sqrt()


def nearest(points: Tensor, centers: Tensor) -> Tensor:
    """(n,) index of each point's nearest center."""
    half = centers.square().sum(1) / 2
    return torch.cat([(part @ centers.T - half).argmax(1) for part in points.split(8192)])


def k_means(points: Tensor, count: int, passes: int, generator: torch.Generator) -> Tensor:
    """(count, dim) centers after Lloyd's algorithm from random points; an empty cluster takes a random point."""
    centers = points[torch.randperm(len(points), generator=generator)[:count]]
    for _ in range(passes):
        found = nearest(points, centers)
        sizes = torch.bincount(found, minlength=count)
        means = torch.zeros_like(centers).index_add_(0, found, points) / sizes.clamp_min(1)[:, None]
        fresh = points[torch.randint(len(points), (count,), generator=generator)]
        centers = torch.where(sizes[:, None] > 0, means, fresh)
    return centers


def in_tree_order(centers: Tensor) -> Tensor:
    """The centers as the leaves of a binary tree that halves them along their principal axis, so that like ones have like numbers.

    The leaves of a phonetic decision tree are numbered so, too.
    """
    if len(centers) < 3:
        return centers
    axis = torch.linalg.eigh(torch.cov(centers.T))[1][:, -1]
    order = (centers @ axis).argsort()
    low, high = centers[order].tensor_split(2)
    return torch.cat([in_tree_order(low), in_tree_order(high)])


def with_context(frames: Tensor, row_splits: Tensor) -> Tensor:
    """(n, 2 * CONTEXT + 1) numbers of the frames around each frame, no further than the ends of its utterance."""
    rows = torch.repeat_interleave(torch.arange(len(row_splits) - 1), row_splits.diff())
    around = torch.arange(len(frames))[:, None] + torch.arange(-CONTEXT, CONTEXT + 1)
    return around.clamp(row_splits[rows][:, None], row_splits[rows + 1][:, None] - 1)


def heard(ids: list[str], audio: list[np.ndarray], add_noise: NoiseAugment, seed: int) -> tuple[Tensor, Tensor]:
    """Features of every utterance under noise, one behind the other, and where each begins."""
    parts = [
        features_of(add_noise(samples, utterance_rng(seed, 0, key))) for key, samples in zip(ids, audio, strict=True)
    ]
    return torch.cat(parts), torch.tensor([0, *map(len, parts)]).cumsum(0)


def classifier(units: int) -> nn.Sequential:
    sizes = [FRONT_END.feature_dim * (2 * CONTEXT + 1), 512, 512, HIDDEN]
    layers: list[nn.Module] = []
    for size, after in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(size, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, units))


@click.command(context_settings={"show_default": True})
@click.option("--train", type=click.Path(exists=True, path_type=Path), required=True, help="Cuts to train on.")
@click.option(
    "--held-back",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    required=True,
    help="Cuts to label; may be given again.",
)
@click.option("--noise", type=click.Path(exists=True, path_type=Path), required=True, help="Noises to train with.")
@click.option(
    "--held-back-noise", type=click.Path(exists=True, path_type=Path), required=True, help="Noises to label with."
)
@click.option("--snr", nargs=2, default=(0.0, 20.0), help="Lowest and highest signal-to-noise ratio in dB.")
@click.option("--units", default=3000, help="V, the number of clusters.")
@click.option("--dim", default=40, help="Principal axes that the clusters are made on.")
@click.option("--copies", default=4, help="Copies of the training set, each with other noise.")
@click.option("--epochs", default=3, help="Passes over the copies.")
@click.option("--seed", default=1)
@click.argument("out", type=click.Path(path_type=Path))
def main(
    train: Path,
    held_back: tuple[Path, ...],
    noise: Path,
    held_back_noise: Path,
    snr: tuple[float, float],
    units: int,
    dim: int,
    copies: int,
    epochs: int,
    seed: int,
    out: Path,
) -> None:
    torch.manual_seed(seed)
    ids, audio = read(train)
    clean = torch.cat([features_of(samples) for samples in audio])
    points = clean @ principal_axes(clean, dim)
    centers = in_tree_order(k_means(points, units, 12, torch.Generator().manual_seed(seed)))
    labels = nearest(points, centers).repeat(copies)
    click.echo(f"{len(clean)} frames in {units} clusters")
    add_noise = NoiseAugment(load_noises(noise, FRONT_END.sampling_rate), snr, 1.0)
    frames, context = [], []
    for copy in range(copies):
        noisy, row_splits = heard(ids, audio, add_noise, seed + copy)
        context.append(with_context(noisy, row_splits) + copy * len(noisy))
        frames.append(noisy)
    inputs, around = torch.cat(frames), torch.cat(context)
    mean, deviation = inputs.mean(0), inputs.std(0)
    inputs = (inputs - mean) / deviation
    model = classifier(units)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    steps = epochs * (len(inputs) // BATCH_FRAMES)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        if step % (steps // epochs) == 0:
            order = torch.randperm(len(inputs))
        chosen = order[(step % (steps // epochs)) * BATCH_FRAMES :][:BATCH_FRAMES]
        loss = nn.functional.cross_entropy(model(inputs[around[chosen]].flatten(1)), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            click.echo(f"update {step + 1}/{steps}: cross-entropy {loss.item():.3f}")
    add_noise = NoiseAugment(load_noises(held_back_noise, FRONT_END.sampling_rate), snr, 1.0)
    ids, audio = zip(*[pair for cuts in held_back for pair in zip(*read(cuts), strict=True)], strict=True)
    found, row_splits = heard(list(ids), list(audio), add_noise, seed)
    found, around = (found - mean) / deviation, with_context(found, row_splits)
    with torch.no_grad():
        hidden = torch.cat([model[:-1](found[part].flatten(1)) for part in around.split(4096)])
        log_probs = model[-1](hidden).log_softmax(1)
    entropy = -(log_probs.exp() * log_probs).sum(1)
    click.echo(
        f"{len(log_probs)} held-back frames, perplexity {entropy.mean().exp():.1f} (of the mean entropy; mean over frames "
        f"{entropy.exp().mean():.1f})"
    )
    np.savez(out, log_probs=log_probs.numpy(), hidden=hidden.numpy(), row_splits=row_splits.numpy())


if __name__ == "__main__":
    main()
