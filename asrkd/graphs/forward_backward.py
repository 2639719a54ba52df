"""Every path of a graph through a batch of scores, by the forward-backward algorithm, without k2 and without beams."""

from __future__ import annotations

import graphlib
import math

import numpy as np
import torch
from torch import Tensor

from asrkd.errors import CorpusError
from asrkd.graphs.graph import DecodingGraph


class ForwardBackward:
    """Occupancies of the classes given that the frames are one of a graph's paths (Baum et al. 1970; Rabiner 1989, section III).

    Probabilities in double precision, scaled to sum to 1 at each frame. The time is in proportion to frames x arcs and the memory to frames x states,
    which suits loops of some thousands of words; larger graphs, as of a language model, want the beams of `asrkd.sequence.lattice`.
    """

    def __init__(self, graph: DecodingGraph, device: str | torch.device = "cpu") -> None:
        """
        Raises:
            CorpusError: the graph has a cycle of arcs without a class.
        """
        arcs, final = _read(graph)
        moving = [arc for arc in arcs if arc[2]]
        self._from, self._to, labels = (torch.tensor([arc[n] for arc in moving], device=device) for n in range(3))
        self._classes = labels - 1
        self._weights = torch.tensor([np.exp(-arc[3]) for arc in moving], dtype=torch.float64, device=device)[:, None]
        free = _free_paths([arc for arc in arcs if not arc[2]])
        self._free_from, self._free_to = (
            torch.tensor([path[n] for path in free], dtype=torch.long, device=device) for n in range(2)
        )
        self._free_weights = torch.tensor([path[2] for path in free], dtype=torch.float64, device=device)[:, None]
        start = torch.zeros(len(final), 1, dtype=torch.float64, device=device)
        start[int(graph.fst.start)] = 1.0
        self._start = self._followed(start)
        self._final = self._preceded(torch.from_numpy(final)[:, None].to(device))

    def __call__(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """(N, T, V) float64 probability of each class at each frame; zero after an utterance's end, and for one without a path.

        Args:
            scores: (N, T, V) scores of the classes, natural logarithms.
            lengths: (N,) frames of each utterance.

        Raises:
            CorpusError: a NaN among the scores.
        """
        if bool(torch.isnan(scores).any()):
            raise CorpusError("the scores hold NaN; the model or its input is broken")
        count, frames, _ = scores.shape
        found = scores.new_zeros((frames, scores.shape[2], count), dtype=torch.float64)
        # Only ratios within a frame matter. Utterances last: what an arc adds to its state is then one row.
        likelihoods = (scores.double() - scores.double().amax(dim=2, keepdim=True)).exp().permute(1, 2, 0).contiguous()
        inside = torch.arange(frames, device=scores.device)[:, None] < lengths.to(scores.device)
        forward, alpha = [], self._start.expand(-1, count)
        for t in range(frames):
            forward.append(alpha)
            moved = alpha[self._from] * self._weights * likelihoods[t, self._classes]
            after = _scaled(self._followed(self._summed(moved, self._to)))
            alpha = torch.where(inside[t], after, alpha)
        beta = self._final.expand(-1, count)
        for t in reversed(range(frames)):
            ahead = beta[self._to] * self._weights * likelihoods[t, self._classes]
            through = forward.pop()[self._from] * ahead
            occupied = torch.zeros_like(found[t]).index_add_(0, self._classes, through)
            found[t] = torch.where(inside[t], _scaled(occupied), 0.0)
            before = _scaled(self._preceded(self._summed(ahead, self._from)))
            beta = torch.where(inside[t], before, beta)
        return found.permute(2, 0, 1).contiguous()

    def _summed(self, values: Tensor, states: Tensor) -> Tensor:
        return values.new_zeros(len(self._final), values.shape[1]).index_add_(0, states, values)

    def _followed(self, masses: Tensor) -> Tensor:
        """(S, N) masses of the states, and where they come over arcs without a class."""
        return masses.index_add(0, self._free_to, masses[self._free_from] * self._free_weights)

    def _preceded(self, masses: Tensor) -> Tensor:
        """The same from the end."""
        return masses.index_add(0, self._free_from, masses[self._free_to] * self._free_weights)


def _free_paths(arcs: list[tuple[int, int, int, float]]) -> list[tuple[int, int, float]]:
    """(source, target, weight) of all paths of one or more arcs without a class, those of one source and target as one.

    Raises:
        CorpusError: a cycle among the arcs.
    """
    leaving: dict[int, list[tuple[int, float]]] = {}
    for source, target, _, cost in arcs:
        leaving.setdefault(source, []).append((target, math.exp(-cost)))
    order = graphlib.TopologicalSorter({source: {target for target, _ in ways} for source, ways in leaving.items()})
    reached: dict[int, dict[int, float]] = {}
    try:
        for state in order.static_order():  # targets first
            found: dict[int, float] = {}
            for target, weight in leaving.get(state, ()):
                for end, rest in [(target, 1.0), *reached[target].items()]:
                    found[end] = found.get(end, 0.0) + weight * rest
            reached[state] = found
    except graphlib.CycleError:
        raise CorpusError("the graph has a cycle of arcs without a class, so its paths cannot be summed up") from None
    return [(source, target, weight) for source, ends in reached.items() for target, weight in ends.items()]


def _scaled(values: Tensor) -> Tensor:
    """Columns that sum to 1; a column of zeros stays."""
    total = values.sum(dim=0, keepdim=True)
    return torch.where(total > 0, values / total, values)


def _read(graph: DecodingGraph) -> tuple[list[tuple[int, int, int, float]], np.ndarray]:
    """(source, target, class + 1 or 0, cost) of the arcs, and the (states,) weights of ending."""
    arcs: list[tuple[int, int, int, float]] = []
    ends: dict[int, float] = {}
    for line in graph.fst.to_str(show_weight_one=True, fst_field_separator=" ").splitlines():
        parts = line.split()
        if len(parts) == 5:
            arcs.append((int(parts[0]), int(parts[1]), int(parts[2]), float(parts[4])))
        elif len(parts) == 2:
            ends[int(parts[0])] = np.exp(-float(parts[1]))
    final = np.zeros(1 + max([*ends, *(max(arc[:2]) for arc in arcs)]))
    final[list(ends)] = list(ends.values())
    return arcs, final
