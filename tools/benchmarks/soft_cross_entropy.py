"""Sparse soft cross-entropy against the dense computation: time and extra memory of loss and gradient.

    python tools/benchmarks/soft_cross_entropy.py --frames 4000 --classes 3183 --kept 20

The reference, run in the same process: the dense target (M, V) is built from the same entries, then -sum p log q.
Memory is the peak of live tensor bytes above the student's logits, counted by torch's profiler on the CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import torch
from torch import Tensor

from asrkd.losses.soft import soft_cross_entropy
from asrkd.targets.codecs import TopK
from asrkd.targets.packed import as_stored


def measure(loss: Callable[[Tensor], Tensor], logits: Tensor, repeats: int) -> tuple[float, float]:
    """Best seconds of forward and backward, and the peak of allocated bytes."""
    times = []
    for _ in range(repeats):
        leaf = logits.clone().requires_grad_()
        began = time.perf_counter()
        loss(leaf).backward()
        times.append(time.perf_counter() - began)
    leaf = logits.clone().requires_grad_()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        loss(leaf).backward()
    now = peak = 0
    for event in profile.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return min(times), float(peak)


@click.command(context_settings={"show_default": True})
@click.option("--frames", default=4000)
@click.option("--classes", default=3183)
@click.option("--kept", default=20)
@click.option("--repeats", default=5)
def main(frames: int, classes: int, kept: int, repeats: int) -> None:
    """Print seconds and megabytes of both, and the ratios."""
    torch.set_num_threads(1)
    logits = torch.randn(frames, classes)
    t = as_stored(TopK(kept), (3 * torch.randn(frames, classes)).log_softmax(1))

    def sparse(x: Tensor) -> Tensor:
        return soft_cross_entropy(x, t, missing_mass="renormalize")

    def dense(x: Tensor) -> Tensor:
        rows = t.entry_frames
        target = torch.zeros(frames, classes)
        target[rows, t.ids] = t.log_probs.exp()
        target /= target.sum(dim=1, keepdim=True)
        return -(target * x.log_softmax(1)).sum()

    difference = abs(float(sparse(logits)) / float(dense(logits)) - 1)
    (time_s, memory_s), (time_d, memory_d) = (measure(f, logits, repeats) for f in (sparse, dense))
    click.echo(
        f"{frames} frames, {classes} classes, {kept} kept, one thread; relative difference of the loss {difference:.1e}"
    )
    click.echo(f"sparse {time_s:.4f} s {memory_s / 1e6:8.1f} MB")
    click.echo(f"dense  {time_d:.4f} s {memory_d / 1e6:8.1f} MB")
    click.echo(f"ratio  {time_s / time_d:.2f} of the time, {memory_s / memory_d:.2f} of the memory")


if __name__ == "__main__":
    main()
