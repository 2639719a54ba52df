"""Which classes of a frame are kept, and with what code: for batches of frames, on the device of the posteriors.

Every function takes (M, V) natural-log posteriors of M frames and gives `Entries`, whose codes are steps of a logarithm
(`largest`, `nucleus`) or counts (`sampled`, `hybrid`). `asrkd.targets.codecs` says what the codes mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asrkd.targets.random import uniforms

# Log-probabilities of `largest` and `nucleus`: units of 2^-11 nat in 16 bits.
LOG_STEP = 2.0**-11
MAX_LOG_CODE = 65535
# Units into which `hybrid` divides the mass of the head.
HEAD_GRID = 64


@dataclass(frozen=True)
class Entries:
    """Kept classes of M frames in CSR form.

    Attributes:
        counts: (M,) int64 entries of each frame.
        ids: (E,) int64 class ids, ascending within a frame.
        codes: (E,) int64, or float32 log-probabilities for the codec `dense`.
        num_classes: V.
    """

    counts: Tensor
    ids: Tensor
    codes: Tensor
    num_classes: int

    def split(self, lengths: Sequence[int]) -> list[Entries]:
        """The entries of utterances that have these numbers of frames."""
        counts = self.counts.split(list(lengths))
        sizes = [int(part.sum()) for part in counts]
        parts = zip(counts, self.ids.split(sizes), self.codes.split(sizes), strict=True)
        return [Entries(*part, self.num_classes) for part in parts]


def everything(log_probs: Tensor) -> Entries:
    """Every class, with its log-probability as it is."""
    num_frames, num_classes = log_probs.shape
    ids = torch.arange(num_classes, device=log_probs.device).repeat(num_frames)
    return Entries(_full(log_probs, num_classes), ids, log_probs.float().reshape(-1), num_classes)


def largest(log_probs: Tensor, k: int) -> Entries:
    """The k most probable classes."""
    num_classes = log_probs.shape[1]
    ids = log_probs.topk(min(k, num_classes), dim=1).indices.sort(dim=1).values
    codes = _log_codes(log_probs.gather(1, ids))
    return Entries(_full(log_probs, ids.shape[1]), ids.reshape(-1), codes.reshape(-1), num_classes)


def nucleus(log_probs: Tensor, mass: float, k_max: int) -> Entries:
    """The fewest most probable classes that hold `mass`, at most `k_max` (Holtzman et al. 2020)."""
    values, ids = log_probs.topk(min(k_max, log_probs.shape[1]), dim=1)
    probs = values.double().exp()
    # A class is needed while those before it hold less than the mass.
    needed = torch.ones_like(ids, dtype=torch.bool)
    needed[:, 1:] = probs.cumsum(dim=1)[:, :-1] < mass
    ids, order = ids.sort(dim=1)
    kept = needed.gather(1, order)
    return Entries(kept.sum(dim=1), ids[kept], _log_codes(values).gather(1, order)[kept], log_probs.shape[1])


def sampled(log_probs: Tensor, draws: int, keys: Tensor) -> Entries:
    """Independent draws with replacement, as counts (Anshumann et al. 2025, "Sparse logit sampling"); codes: count - 1."""
    num_classes = log_probs.shape[1]
    cumulated = _cumulated(log_probs.double().exp(), 1.0)
    ids = torch.searchsorted(cumulated, uniforms(keys, draws), right=True)
    # Rounding must not choose a class beyond the last one with probability.
    last = torch.searchsorted(cumulated, cumulated[:, -1:].contiguous())
    ids = torch.minimum(ids, last).sort(dim=1).values
    places = ids + torch.arange(len(ids), device=ids.device)[:, None] * num_classes
    places, counts = torch.unique_consecutive(places.reshape(-1), return_counts=True)
    frames = torch.div(places, num_classes, rounding_mode="floor")
    return Entries(torch.bincount(frames, minlength=len(ids)), places % num_classes, counts - 1, num_classes)


def hybrid(log_probs: Tensor, head: int, draws: int, keys: Tensor) -> Entries:
    """The `head` most probable classes on a fine grid, the others by systematic sampling; both right in the mean.

    A tail class gets a count of units of 1/draws. The mass that the tail's counts leave is shared among the head in units
    of 1/HEAD_GRID, so the probabilities of a frame sum to 1. Codes: count - 1 in the tail, draws - 1 + units in the head.
    """
    probs = log_probs.double().exp()
    probs = probs / probs.sum(dim=1, keepdim=True)
    offsets = uniforms(keys, 2)
    ids = probs.topk(min(head, probs.shape[1]), dim=1).indices
    shares = probs.gather(1, ids)
    tail = probs.scatter(1, ids, 0.0)
    counts = systematic_counts(tail, tail.sum(dim=1, keepdim=True) * draws, offsets[:, :1])
    if head:
        # Nothing is left for the head where the tail took all units.
        grid = torch.where(counts.sum(dim=1, keepdim=True) < draws, HEAD_GRID, 0)
        units = systematic_counts(shares, grid.double(), offsets[:, 1:])
        counts = counts.scatter(1, ids, torch.where(units > 0, units + draws, 0))
    kept = counts > 0
    return Entries(kept.sum(dim=1), kept.nonzero()[:, 1], counts[kept] - 1, probs.shape[1])


def systematic_counts(weights: Tensor, total: Tensor, offsets: Tensor) -> Tensor:
    """(M, V) int64 counts: each class has the floor or the ceiling of its share of `total`, right in the mean.

    Systematic sampling (Madow 1949): a comb of teeth at distance 1 and one random offset is laid over the cumulated
    weights, so a count is less than 1 away from its expectation, where independent draws wander by its root.

    Args:
        weights: (M, V) float64, not negative.
        total: (M, 1) float64 expected sum of a frame's counts; they sum to its floor or ceiling.
        offsets: (M, 1) uniform in [0, 1).
    """
    combs = torch.floor(_cumulated(weights, total) + offsets)
    return torch.diff(combs, dim=1, prepend=torch.zeros_like(combs[:, :1])).to(torch.int64)


def _cumulated(weights: Tensor, total: Tensor | float) -> Tensor:
    """(M, V) cumulated weights that end at exactly `total` (at 0 where all weights are 0)."""
    cumulated = weights.cumsum(dim=1)
    return cumulated / cumulated[:, -1:].clamp_min(torch.finfo(torch.float64).tiny) * total


def _log_codes(log_probs: Tensor) -> Tensor:
    return (log_probs.double() / -LOG_STEP).clamp(0, MAX_LOG_CODE).round().to(torch.int64)


def _full(log_probs: Tensor, count: int) -> Tensor:
    return torch.full((len(log_probs),), count, dtype=torch.int64, device=log_probs.device)
