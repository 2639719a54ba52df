"""Every path of a graph through a batch of scores, by the forward-backward algorithm, without k2 and without beams."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from asrkd.errors import CorpusError
from asrkd.graphs.graph import DecodingGraph


class ForwardBackward:
    """Occupancies of the classes given that the frames are one of a graph's paths (Baum et al. 1970; Rabiner 1989, section III).

    Probabilities in double precision, scaled to sum to 1 at each frame. The time is in proportion to frames x states^2, which suits
    loops of some hundreds of words; larger graphs want the beams of `asrkd.sequence.lattice`.
    """

    def __init__(self, graph: DecodingGraph, device: str | torch.device = "cpu") -> None:
        """
        Raises:
            CorpusError: the graph has a cycle of arcs without a class.
        """
        arcs, final = _read(graph)
        states = len(final)
        free = np.zeros((states, states))
        for source, target, label, cost in arcs:
            if not label:
                free[source, target] += np.exp(-cost)
        # Where one comes over arcs without a class, any number of them: 1 + free + free^2 + ...
        closure, power = np.eye(states), free
        for _ in range(states):
            if not power.any():
                break
            closure += power
            power = power @ free
        else:
            raise CorpusError("the graph has a cycle of arcs without a class, so its paths cannot be summed up")
        moving = [arc for arc in arcs if arc[2]]
        self._from, self._to, labels = (torch.tensor([arc[n] for arc in moving], device=device) for n in range(3))
        self._classes = labels - 1
        self._weights = torch.tensor([np.exp(-arc[3]) for arc in moving], dtype=torch.float64, device=device)
        self._closure = torch.from_numpy(closure).to(device)
        self._final = self._closure @ torch.from_numpy(final).to(device)
        self._start = self._closure[int(graph.fst.start)]

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
        found = scores.new_zeros(scores.shape, dtype=torch.float64)
        # Only ratios within a frame matter.
        likelihoods = (scores.double() - scores.double().amax(dim=2, keepdim=True)).exp()
        inside = torch.arange(frames, device=scores.device)[None] < lengths.to(scores.device)[:, None]
        forward, alpha = [], self._start.expand(count, -1)
        for t in range(frames):
            forward.append(alpha)
            moved = alpha[:, self._from] * self._weights * likelihoods[:, t, self._classes]
            after = _scaled(self._summed(moved, self._to) @ self._closure)
            alpha = torch.where(inside[:, t, None], after, alpha)
        beta = self._final.expand(count, -1)
        for t in reversed(range(frames)):
            ahead = beta[:, self._to] * self._weights * likelihoods[:, t, self._classes]
            through = forward[t][:, self._from] * ahead
            occupied = torch.zeros_like(found[:, t]).index_add_(1, self._classes, through)
            found[:, t] = torch.where(inside[:, t, None], _scaled(occupied), 0.0)
            before = _scaled(self._summed(ahead, self._from) @ self._closure.T)
            beta = torch.where(inside[:, t, None], before, beta)
        return found

    def _summed(self, values: Tensor, states: Tensor) -> Tensor:
        return values.new_zeros(len(values), len(self._final)).index_add_(1, states, values)


def _scaled(values: Tensor) -> Tensor:
    """Rows that sum to 1; a row of zeros stays."""
    total = values.sum(dim=1, keepdim=True)
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
