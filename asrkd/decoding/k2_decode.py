"""Decoding by k2: the same graphs as kaldi-decoder's, in batches, on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.decoding.decode import Hypothesis, check_scores
from asrkd.graphs import DecodingGraph, k2_graph
from asrkd.sequence.decode import one_best
from asrkd.sequence.lattice import Beam


class K2Decoder:
    """Decodes batches through a graph with `k2.intersect_dense_pruned`.

    Raises:
        DependencyError: k2 is not installed.
    """

    def __init__(self, graph: DecodingGraph, *, device: str = "cpu", beam: Beam | None = None) -> None:
        self.graph, self.device = graph, torch.device(device)
        self.beam = beam or Beam()
        self.fsa: Any = k2_graph(graph).to(self.device)

    def decode(
        self,
        log_probs: Sequence[NDArray[np.float32]],
        *,
        log_prior: NDArray[np.float32] | None = None,
        acoustic_scale: float = 1.0,
    ) -> list[Hypothesis]:
        """The best path of each utterance, (T, V) log-posteriors each; arguments as for `graph_decode`.

        Raises:
            MismatchError: V is not the graph's inventory's.
            CorpusError: no path survives the beam (k2 keeps paths that end at a word's end alone), or NaN among the scores.
        """
        scores = [torch.from_numpy(check_scores(one, self.graph, log_prior, acoustic_scale)) for one in log_probs]
        found = [Hypothesis((), 0.0, np.zeros(0, dtype=np.int64)) for _ in scores]
        chosen = [n for n, one in enumerate(scores) if len(one)]
        if not chosen:
            return found
        padded = torch.nn.utils.rnn.pad_sequence([scores[n] for n in chosen], batch_first=True).to(self.device)
        lengths = torch.tensor([len(scores[n]) for n in chosen])
        for n, path in zip(chosen, one_best(padded, lengths, self.fsa, beam=self.beam), strict=True):
            words = tuple(self.graph.words[word] for word in path.words)
            found[n] = Hypothesis(words, path.score, path.classes.cpu().numpy())
        return found
