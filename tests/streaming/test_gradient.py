"""The gradient of a global batch is the same for any number of ranks, with real processes that add theirs up (gloo)."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import torch
from stream_helpers import FRONT_END, add_up, gradients, make_loader, mean_loss


def test_ranks_with_unequal_frames_add_up_to_the_gradient_of_one(roots: dict[str, str], tmp_path: Path) -> None:
    world_size = 3
    expected = gradients(roots["soft"], 0, 1)
    # Streams 0 and 3 are of rank 0: ranks have other numbers of batches, and all have other numbers of frames.
    context = multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=add_up, args=(roots["soft"], rank, world_size, str(tmp_path)))
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        assert process.exitcode == 0
    found = torch.load(tmp_path / f"{world_size}.pt", weights_only=True)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_gradient_is_that_of_all_frames_in_one_batch(roots: dict[str, str]) -> None:
    loader = make_loader({"soft": roots["soft"]}, streams=4)
    batches = next(loader.steps({"soft": 1}))
    weight = torch.linspace(-1, 1, 3 * FRONT_END.feature_dim, dtype=torch.float64).view(3, -1).requires_grad_()
    frames = [int(batch.num_frames.sum()) for batch in batches]
    total = sum(mean_loss(batch, weight) * count for batch, count in zip(batches, frames, strict=True)) / sum(frames)
    (expected,) = torch.autograd.grad(total, weight)
    torch.testing.assert_close(gradients(roots["soft"], 0, 1)[0], expected, rtol=1e-9, atol=1e-12)
