"""Mutual learning: students that learn from each other while they learn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asrkd.errors import MismatchError


def mutual_kl(logits: Sequence[Tensor], *, temperature: float = 1.0) -> list[Tensor]:
    """For each student the mean over its peers of KL(peer || student), in nats (Zhang et al. 2018, "Deep mutual learning", equations 5 and 10).

    Args:
        logits: of each student (M, V), of the same M frames. A student's gradient does not flow into its peers.
        temperature: of all; the divergence is multiplied by its square, so that gradients keep their size.

    Returns:
        A sum over frames (a scalar) for each student; 0 for one by itself.

    Raises:
        MismatchError: the shapes differ.
    """
    if len({one.shape for one in logits}) > 1:
        raise MismatchError(
            f"students that learn from each other need the same frames and classes, but their logits are {', '.join(str(tuple(one.shape)) for one in logits)}"
        )
    log_q = [(one.to(torch.promote_types(one.dtype, torch.float32)) / temperature).log_softmax(dim=1) for one in logits]
    losses = []
    for number, own in enumerate(log_q):
        total = own.new_zeros(())
        for other, peer in enumerate(log_q):
            if other != number:
                total = total + torch.nn.functional.kl_div(own, peer.detach(), reduction="sum", log_target=True)
        losses.append(total * temperature**2 / max(len(log_q) - 1, 1))
    return losses
