"""Posteriors to measure codecs on: a small BLSTM over clustered units, trained on noisy speech, on speech held back.

    python tools/benchmarks/posteriors.py --train CUTS --held-back CUTS --noise FOLDER OUT

Units are k-means clusters of clean, mean-subtracted log-mel frames (30 ms), a stand-in for senones; the classifier hears
the training cuts under noise at 0 to 20 dB, so that its posteriors are as flat as those of a teacher on hard audio.
OUT is an .npz: `log_probs` (frames, V) float32, `hidden` (frames, 256) float32, the input of the classifier's output layer,
and `row_splits`, the frame at which each utterance begins.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from asrkd.corpus.augment import NoiseAugment, load_noises, utterance_rng
from asrkd.corpus.cuts import open_cuts, read_audio
from asrkd.corpus.front_end import FrontEnd
from asrkd.models import BLSTMTeacher

FRONT_END = FrontEnd()
BATCH_FRAMES = 3000
# Features of the output layer; with a bias 257.
HIDDEN = 256


def read(path: Path) -> tuple[list[str], list[np.ndarray]]:
    """Ids and samples of every cut."""
    cuts = list(open_cuts(str(path)))
    return [cut.id for cut in cuts], [read_audio(cut, FRONT_END.sampling_rate) for cut in cuts]


def features_of(samples: np.ndarray) -> Tensor:
    return FRONT_END(torch.from_numpy(samples))


def principal_axes(frames: Tensor, dim: int = 40) -> Tensor:
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


@click.command(context_settings={"show_default": True})
@click.option("--train", type=click.Path(exists=True, path_type=Path), required=True, help="Cuts to train on.")
@click.option("--held-back", type=click.Path(exists=True, path_type=Path), required=True, help="Cuts to label.")
@click.option("--noise", type=click.Path(exists=True, path_type=Path), required=True, help="Folder of noises.")
@click.option("--units", default=3000, help="V, the number of clusters.")
@click.option("--steps", default=3000, help="Updates of the classifier.")
@click.option("--seed", default=1)
@click.argument("out", type=click.Path(path_type=Path))
def main(train: Path, held_back: Path, noise: Path, units: int, steps: int, seed: int, out: Path) -> None:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    ids, audio = read(train)
    clean = [features_of(samples) for samples in audio]
    frames = torch.cat(clean)
    projection = principal_axes(frames)
    centers = k_means(frames @ projection, units, 12, generator)
    labels = [nearest(one @ projection, centers) for one in clean]
    click.echo(f"{len(frames)} frames in {units} clusters")
    add_noise = NoiseAugment(load_noises(noise, FRONT_END.sampling_rate), (0.0, 20.0), 0.8)
    model = BLSTMTeacher(FRONT_END.feature_dim, units, hidden_dim=HIDDEN // 2, num_layers=2, dropout=0.2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    order: list[int] = []
    for step in range(steps):
        chosen: list[int] = []
        while sum(len(clean[i]) for i in chosen) < BATCH_FRAMES:
            order = order or torch.randperm(len(ids), generator=generator).tolist()
            chosen.append(order.pop())
        noisy = [features_of(add_noise(audio[i], utterance_rng(seed, step, ids[i]))) for i in chosen]
        lengths = torch.tensor([len(one) for one in noisy])
        logits, _ = model(nn.utils.rnn.pad_sequence(noisy, batch_first=True), lengths)
        mask = torch.arange(logits.shape[1]) < lengths[:, None]
        loss = nn.functional.cross_entropy(logits[mask], torch.cat([labels[i] for i in chosen]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            click.echo(f"update {step + 1}/{steps}: cross-entropy {loss.item():.3f}")
    model.eval()
    hidden: list[Tensor] = []
    model.output.register_forward_pre_hook(lambda module, inputs: hidden.append(inputs[0][0]))
    _, audio = read(held_back)
    with torch.no_grad():
        parts = []
        for samples in audio:
            one = features_of(samples)[None]
            parts.append(model(one, torch.tensor([one.shape[1]]))[0][0].log_softmax(1))
    log_probs = torch.cat(parts)
    splits = torch.tensor([0, *[len(part) for part in parts]]).cumsum(0)
    entropy = -(log_probs.exp() * log_probs).sum(1)
    click.echo(
        f"{len(log_probs)} held-back frames, perplexity {entropy.mean().exp():.1f} (of the mean entropy; mean over frames "
        f"{entropy.exp().mean():.1f})"
    )
    np.savez(out, log_probs=log_probs.numpy(), hidden=torch.cat(hidden).numpy(), row_splits=splits.numpy())


if __name__ == "__main__":
    main()
