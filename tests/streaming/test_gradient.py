"""The gradient of a global batch is the same for any number of ranks, with real processes that add theirs up (gloo)."""

from __future__ import annotations

import pytest
import torch
from rank_helpers import on_ranks
from stream_helpers import FRONT_END, gradients, make_loader, mean_loss, summed_gradients


@pytest.mark.slow
def test_ranks_with_unequal_frames_add_up_to_the_gradient_of_one(roots: dict[str, str]) -> None:
    expected = gradients(roots["soft"], 0, 1)
    # Streams 0 and 3 are of rank 0: ranks have other numbers of batches, and all have other numbers of frames.
    found = on_ranks(3, summed_gradients, roots["soft"])[0]
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
