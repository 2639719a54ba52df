"""Lattices: the paths of graphs through a batch of scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asrkd.errors import ConfigError, CorpusError
from asrkd.sequence.dependency import import_k2


@dataclass(frozen=True)
class Beam:
    """How far a lattice is pruned.

    Attributes:
        search: states of a frame that are worse than its best one by more are dropped at once.
        output: arcs that are on no path this close to the best one are dropped in the end.
        min_active, max_active: states kept a frame.
    """

    search: float = 20.0
    output: float = 8.0
    min_active: int = 30
    max_active: int = 10000

    @classmethod
    def of_search(cls, search: float, max_active: int, output: float | None = None) -> Beam:
        """A beam of a search with few states, too."""
        return cls(search, cls.output if output is None else output, min(cls.min_active, max_active - 1), max_active)

    def __post_init__(self) -> None:
        if not (self.search > 0 and self.output > 0 and 0 <= self.min_active < self.max_active):
            raise ConfigError(f"{self} cannot be used: beams must be above 0, and 0 <= min_active < max_active")


def lattices(scores: Tensor, lengths: Tensor, graphs: Any, *, beam: Beam | None = None, frames: bool = False) -> Any:
    """Every path of each utterance's graph through its scores, an FsaVec of N lattices.

    Args:
        scores: (N, T, V) scores of the classes, natural logarithms; gradients flow to them through the lattices' scores.
        lengths: (N,) frames of each utterance, from 1.
        graphs: an FsaVec of N graphs, or one Fsa for all utterances; their labels are classes, none stands for epsilon.
        beam: None keeps every path.
        frames: whether arcs get an attribute `frame`, the frame that they stand for.

    Raises:
        CorpusError: an utterance without frames, or a NaN among the scores.
        ConfigError: a graph with classes that the scores do not have.
    """
    k2 = import_k2()
    lengths = lengths.cpu()
    if not bool((lengths > 0).all()):
        raise CorpusError(
            f"utterance {int((lengths <= 0).nonzero()[0])} of the batch has no frames, so it has no paths; leave it out"
        )
    if bool(torch.isnan(scores.detach()).any()):
        raise CorpusError("the scores hold NaN; the model or its input is broken")
    highest = int(graphs.labels.max()) if graphs.labels.numel() else -1
    if highest >= scores.shape[2]:
        raise ConfigError(
            f"the graph has class {highest}, the model gives {scores.shape[2]} classes; build the graph from the model's own inventory"
        )
    # k2 wants the segments in order of decreasing length.
    order = torch.argsort(lengths, descending=True, stable=True)
    segments = torch.stack([order, torch.zeros_like(order), lengths[order]], dim=1).to(torch.int32)
    dense = k2.DenseFsaVec(scores, segments)
    name = "frame" if frames else None
    several = len(graphs.shape) == 3 and graphs.shape[0] > 1
    if beam is None or several:
        graphs = k2.create_fsa_vec([graphs]) if len(graphs.shape) == 2 else graphs
        which = order if several else torch.zeros_like(order)
        graphs = k2.index_fsa(graphs, which.to(device=graphs.device, dtype=torch.int32))
    if beam is None:
        found = k2.intersect_dense(graphs, dense, 1e10, frame_idx_name=name)
    else:
        found = k2.intersect_dense_pruned(
            graphs, dense, beam.search, beam.output, beam.min_active, beam.max_active, frame_idx_name=name
        )
    back = torch.argsort(order).to(device=scores.device, dtype=torch.int32)
    return k2.index_fsa(found, back)


def total_scores(lattice: Any) -> Tensor:
    """(N,) float64 log of the summed exponentials of all paths' scores; -inf where there is none."""
    return lattice.get_tot_scores(log_semiring=True, use_double_scores=True)


def occupancies(scores: Tensor, lengths: Tensor, graphs: Any, *, beam: Beam | None = None) -> Tensor:
    """(N, T, V) probability of each class at each frame, given that the path is one of the graph's: soft alignments.

    Zero after an utterance's end, and for an utterance without a path. Arguments as for `lattices`; no gradient flows.
    """
    with torch.enable_grad():
        leaf = scores.detach().clone().requires_grad_()
        totals = total_scores(lattices(leaf, lengths, graphs, beam=beam))
        # The derivative of the total score with respect to a score is its occupancy.
        kept = torch.where(torch.isfinite(totals), totals, torch.zeros_like(totals))
        (found,) = torch.autograd.grad(kept.sum(), leaf)
    return found


def confidences(lattice: Any) -> Tensor:
    """(N,) float64 probability of each lattice's best path, given its lattice; 0 where there is none."""
    best = lattice.get_tot_scores(log_semiring=False, use_double_scores=True)
    total = total_scores(lattice)
    return torch.where(torch.isfinite(total), (best - total).exp(), torch.zeros_like(total))
