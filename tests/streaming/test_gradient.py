"""The gradient of a global batch is the same for any number of ranks, with real processes that add theirs up (gloo)."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import torch
from stream_helpers import FRONT_END, make_loader
from torch import Tensor

from asrkd.losses.soft import soft_cross_entropy
from asrkd.streaming.batch import Batch

STEPS = 3


def _gradients(root: str, rank: int, world_size: int) -> list[Tensor]:
    """Of a linear model, summed over this rank's batches of each global batch."""
    loader = make_loader({"soft": root}, streams=4, rank=rank, world_size=world_size)
    steps = loader.steps({"soft": 1})
    found = []
    for _ in range(STEPS):
        weight = torch.linspace(-1, 1, 3 * FRONT_END.feature_dim, dtype=torch.float64).view(3, -1).requires_grad_()
        for batch in next(steps):
            (_mean_loss(batch, weight) * batch.weight).backward()
        found.append(torch.zeros_like(weight) if weight.grad is None else weight.grad)
    return found


def _mean_loss(batch: Batch, weight: Tensor) -> Tensor:
    mask = torch.arange(batch.features.shape[1])[None] < batch.feature_lengths[:, None]
    logits = batch.features.double()[mask] @ weight.T
    targets = batch.targets
    assert targets is not None
    return soft_cross_entropy(logits, targets.row_splits, targets.ids, targets.log_probs, targets.missing)


def _rank(root: str, rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous-{world_size}", rank=rank, world_size=world_size
    )
    summed = _gradients(root, rank, world_size)
    for gradient in summed:
        torch.distributed.all_reduce(gradient)
    if rank == 0:
        torch.save(summed, f"{folder}/{world_size}.pt")
    torch.distributed.destroy_process_group()


def test_ranks_with_unequal_frames_add_up_to_the_gradient_of_one(roots: dict[str, str], tmp_path: Path) -> None:
    world_size = 3
    expected = _gradients(roots["soft"], 0, 1)
    # Streams 0 and 3 are of rank 0: ranks have other numbers of batches, and all have other numbers of frames.
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=_rank, args=(roots["soft"], rank, world_size, str(tmp_path)))
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
    total = sum(_mean_loss(batch, weight) * count for batch, count in zip(batches, frames, strict=True)) / sum(frames)
    (expected,) = torch.autograd.grad(total, weight)
    torch.testing.assert_close(_gradients(roots["soft"], 0, 1)[0], expected, rtol=1e-9, atol=1e-12)
