"""Decoding by k2: the same graphs as kaldi-decoder's, in batches, on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.decoding.decode import Hypothesis, check_scores
from asrkd.errors import DependencyError
from asrkd.graphs import DecodingGraph, k2_graph
from asrkd.sequence.decode import best_paths
from asrkd.sequence.decode import n_best as k2_n_best
from asrkd.sequence.dependency import import_k2
from asrkd.sequence.lattice import Beam, lattices


class K2Decoder:
    """Decodes batches through a graph with `k2.intersect_dense_pruned`.

    Raises:
        DependencyError: k2 is not installed, or is to search on a GPU and was built without CUDA.
    """

    def __init__(self, graph: DecodingGraph, *, device: str = "cpu", beam: Beam | None = None) -> None:
        self.graph, self.device = graph, torch.device(device)
        if self.device.type == "cuda" and not import_k2().with_cuda:
            raise DependencyError(
                f"k2 was built without CUDA, so it cannot search on {device!r}; install a CUDA build (https://k2-fsa.github.io/k2/cuda.html), or let "
                "kaldi-decoder search, on the CPU (decoder kaldi)"
            )
        self.beam = beam or Beam()
        self.fsa: Any = k2_graph(graph).to(self.device)

    def decode(self, scores: Sequence[NDArray[np.float32]], n_best: int = 1) -> list[list[Hypothesis]]:
        """The `n_best` best word sequences of each utterance, (T, V) acoustic scores each; the best first.

        Raises:
            MismatchError: V is not the graph's inventory's.
            CorpusError: no path survives the beam (k2 keeps paths that end at a word's end alone), or NaN among the scores.
        """
        frames = [torch.from_numpy(check_scores(one, self.graph.inventory)) for one in scores]
        found = [[Hypothesis((), 0.0, np.zeros(0, dtype=np.int64))] for _ in frames]
        chosen = [n for n, one in enumerate(frames) if len(one)]
        if not chosen:
            return found
        padded = torch.nn.utils.rnn.pad_sequence([frames[n] for n in chosen], batch_first=True).to(self.device)
        lengths = torch.tensor([len(frames[n]) for n in chosen])
        with torch.no_grad():
            lattice = lattices(padded, lengths, self.fsa, beam=self.beam)
        paths = [[path] for path in best_paths(lattice)] if n_best == 1 else k2_n_best(lattice, n_best)
        for n, own in zip(chosen, paths, strict=True):
            found[n] = [
                Hypothesis(tuple(self.graph.words[word] for word in path.words), path.score, path.classes.cpu().numpy())
                for path in own
            ]
        return found
