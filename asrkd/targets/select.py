"""Which classes of a frame are kept, and with what code: for batches of frames, on the device of the posteriors.

Every function takes (M, V) natural-log posteriors of M frames and gives `Entries`, whose codes are steps of a logarithm
(`largest`, `nucleus`) or counts (`sampled`, `hybrid`). `asrkd.targets.codecs` says what the codes mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asrkd.targets.random import uniforms

# Log-probabilities of `largest` and `nucleus`: units of 2^-11 nat in 16 bits.
LOG_STEP = 2.0**-11
MAX_LOG_CODE = 65535
# Units into which `hybrid` divides the mass of the head.
HEAD_GRID = 64
# Posteriors (frames x classes) that are looked at together.
_BLOCK = 3 << 18
# Classes whose mass is summed up first when a point of the cumulated mass is searched.
_GROUP = 64
_LOG2_E = 1 / math.log(2)
_TINY = torch.finfo(torch.float64).tiny


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

    def cpu(self) -> Entries:
        """The same in the host's memory."""
        return Entries(self.counts.cpu(), self.ids.cpu(), self.codes.cpu(), self.num_classes)

    @classmethod
    def cat(cls, parts: Sequence[Entries]) -> Entries:
        """The entries of all frames, one part after the other; at least one part."""
        counts, ids, codes = (torch.cat([getattr(part, name) for part in parts]) for name in ("counts", "ids", "codes"))
        return cls(counts, ids, codes, parts[0].num_classes)


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

    def block(log_probs: Tensor, points: Tensor) -> tuple[Tensor, ...]:
        mass = _Mass.of(_probs(log_probs))
        return (mass.find(points.sort(dim=1).values * mass.total),)

    (ids,) = _in_blocks(block, log_probs, uniforms(keys, draws))
    places, counts = _places(ids, log_probs.shape[1]).view(-1).unique_consecutive(return_counts=True)
    return _entries(places, counts - 1, log_probs)


def hybrid(log_probs: Tensor, head: int, draws: int, keys: Tensor) -> Entries:
    """The `head` most probable classes on a fine grid, the others by systematic sampling; both right in the mean.

    A tail class gets a count of units of 1/draws. The mass that the tail's counts leave is shared among the head in units
    of 1/HEAD_GRID, so the probabilities of a frame sum to 1. Codes: count - 1 in the tail, draws - 1 + units in the head.

    Systematic sampling (Madow 1949): a comb of teeth at distance 1 and one random offset is laid over the cumulated
    weights, so a count is less than 1 away from its expectation, where independent draws wander by its root.
    """
    num_classes = log_probs.shape[1]
    offsets = uniforms(keys, 2)
    teeth = torch.arange(1, draws + 1, device=log_probs.device)

    def block(log_probs: Tensor, offsets: Tensor) -> tuple[Tensor, ...]:
        probs = _probs(log_probs)
        first = log_probs.topk(min(head, num_classes), dim=1).indices
        shares = probs.gather(1, first).double()
        mass = _Mass.of(probs.scatter_(1, first, 0.0) if head else probs)
        units = mass.total / (mass.total + shares.sum(dim=1, keepdim=True)) * draws
        at = (teeth - offsets[:, :1]) * (mass.total / units.clamp_min(_TINY))
        return mass.find(at), units, first, shares

    ids, units, first, shares = _in_blocks(block, log_probs, offsets)
    hit = teeth <= torch.floor(units + offsets[:, :1])
    places, counts = _places(ids, num_classes)[hit].unique_consecutive(return_counts=True)
    if not head:
        return _entries(places, counts - 1, log_probs)
    # Nothing is left for the head where the tail took all units.
    grid = torch.where(hit.sum(dim=1, keepdim=True) < draws, HEAD_GRID, 0)
    shared = systematic_counts(shares, grid.double(), offsets[:, 1:])
    kept = shared > 0
    places, order = torch.cat([places, _places(first, num_classes)[kept]]).sort()
    return _entries(places, torch.cat([counts - 1, shared[kept] + draws - 1])[order], log_probs)


def systematic_counts(weights: Tensor, total: Tensor, offsets: Tensor) -> Tensor:
    """(M, V) int64 counts: each class has the floor or the ceiling of its share of `total`, right in the mean.

    Args:
        weights: (M, V) float64, not negative.
        total: (M, 1) float64 expected sum of a frame's counts; they sum to its floor or ceiling.
        offsets: (M, 1) uniform in [0, 1).
    """
    cumulated = weights.cumsum(dim=1)
    combs = torch.floor(cumulated / cumulated[:, -1:].clamp_min(_TINY) * total + offsets)
    return torch.diff(combs, dim=1, prepend=torch.zeros_like(combs[:, :1])).to(torch.int64)


def _in_blocks(
    block: Callable[[Tensor, Tensor], tuple[Tensor, ...]], log_probs: Tensor, uniforms: Tensor
) -> list[Tensor]:
    """What `block` gives for all frames, some at a time, so that (on a CPU) their posteriors stay in the cache."""
    size = _BLOCK if log_probs.device.type == "cpu" else 64 * _BLOCK
    rows = max(1, size // log_probs.shape[1])
    parts = [block(*pair) for pair in zip(log_probs.split(rows), uniforms.split(rows), strict=True)]
    return [torch.cat(columns) for columns in zip(*parts, strict=True)]


def _probs(log_probs: Tensor) -> Tensor:
    """(M, whole groups of classes) float32 probabilities, 0 after the last class."""
    frames, classes = log_probs.shape
    probs = torch.empty(frames, -(-classes // _GROUP) * _GROUP, device=log_probs.device)
    probs[:, classes:] = -torch.inf
    # A power of two takes half the time of torch.exp on a CPU; the error of the product is 1e-6 of a probability.
    torch.mul(log_probs.float(), _LOG2_E, out=probs[:, :classes])
    return probs.exp2_()


@dataclass(frozen=True)
class _Mass:
    """The probabilities of M frames, cumulated by groups of classes: a point is searched among groups, then within its group.

    Cumulating all of some thousand classes in double precision would take longer than everything else.
    """

    grouped: Tensor
    sums: Tensor
    cumulated: Tensor

    @classmethod
    def of(cls, probs: Tensor) -> _Mass:
        """Of what `_probs` gives."""
        grouped = probs.view(len(probs), probs.shape[1] // _GROUP, _GROUP)
        sums = grouped.sum(dim=2).double()
        return cls(grouped, sums, sums.cumsum(dim=1))

    @property
    def total(self) -> Tensor:
        """(M, 1) float64."""
        return self.cumulated[:, -1:]

    def find(self, points: Tensor) -> Tensor:
        """The class of each (M, K) point of the cumulated mass; rounding never chooses one without mass."""
        group = _above(self.cumulated, points)
        below = self.cumulated.gather(1, group) - self.sums.gather(1, group)
        rows = _places(group, self.sums.shape[1]).view(-1)
        inside = self.grouped.view(-1, _GROUP).index_select(0, rows).cumsum(dim=1, dtype=torch.float64)
        within = _above(inside, (points - below).view(-1, 1))
        return group * _GROUP + within.view_as(group)


def _above(cumulated: Tensor, points: Tensor) -> Tensor:
    """Where each row's (M, N) cumulated mass first exceeds its (M, K) points, which are kept below the row's total."""
    last = cumulated[:, -1:]
    return torch.searchsorted(cumulated, points.minimum(last.nextafter(last - 1)), right=True)


def _places(ids: Tensor, num_classes: int) -> Tensor:
    """Where the (M, K) classes of frames are in the (M, V) array, row after row."""
    return ids + torch.arange(len(ids), device=ids.device)[:, None] * num_classes


def _entries(places: Tensor, codes: Tensor, log_probs: Tensor) -> Entries:
    num_frames, num_classes = log_probs.shape
    frames = torch.div(places, num_classes, rounding_mode="floor")
    return Entries(torch.bincount(frames, minlength=num_frames), places - frames * num_classes, codes, num_classes)


def _log_codes(log_probs: Tensor) -> Tensor:
    return (log_probs.double() / -LOG_STEP).clamp(0, MAX_LOG_CODE).round().to(torch.int64)


def _full(log_probs: Tensor, count: int) -> Tensor:
    return torch.full((len(log_probs),), count, dtype=torch.int64, device=log_probs.device)
