"""Mutual learning: students that learn from each other while they learn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asrkd.errors import MismatchError


def mutual_kl(logits: Tensor, peers: Sequence[Tensor], *, temperature: float = 1.0) -> Tensor:
    """The mean over a student's peers of KL(peer || student), in nats (Zhang et al. 2018, "Deep mutual learning", equations 5 and 10).

    Args:
        logits: of the student (M, V).
        peers: of each of the others (M, V), of the same M frames. No gradient flows into them.
        temperature: of all; the divergence is multiplied by its square, so that gradients keep their size.

    Returns:
        A sum over frames (a scalar); 0 without peers.

    Raises:
        MismatchError: the shapes differ.
    """
    if shapes := {tuple(peer.shape) for peer in peers} - {tuple(logits.shape)}:
        raise MismatchError(
            f"students that learn from each other need the same frames and classes, but their logits are {tuple(logits.shape)} and "
            f"{', '.join(map(str, sorted(shapes)))}"
        )

    def log_probs(of: Tensor) -> Tensor:
        return (of.to(torch.promote_types(of.dtype, torch.float32)) / temperature).log_softmax(dim=1)

    log_q, total = log_probs(logits), logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32))
    for peer in peers:
        total = total + torch.nn.functional.kl_div(log_q, log_probs(peer.detach()), reduction="sum", log_target=True)
    return total * temperature**2 / max(len(peers), 1)
