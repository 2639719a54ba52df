"""CTC over k2 graphs: total scores and best paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asrkd.errors import CorpusError
from asrkd.sequence.dependency import import_k2
from asrkd.sequence.lattice import lattices, total_scores


def ctc_lattice(log_probs: Tensor, lengths: Tensor, tokens: Sequence[Sequence[int]]) -> Any:
    """Every path of each utterance's tokens through its log-probabilities, as an FsaVec of N lattices.

    The graph has k2's standard CTC topology: blanks (class 0) between tokens, and at least one between two equal ones.

    Args:
        log_probs: (N, T, V) natural-log probabilities; gradients flow to them through the lattice's scores.
        lengths: (N,) frames of each utterance.
        tokens: class ids of each utterance's transcript, none of them 0.

    Raises:
        CorpusError: an empty transcript, or one with more tokens than frames.
        DependencyError: k2 is not installed.
    """
    k2 = import_k2()
    for number, (own, length) in enumerate(zip(tokens, lengths.tolist())):  # noqa: B905 (lengths checked by k2)
        needed = len(own) + sum(a == b for a, b in zip(own, own[1:]))  # noqa: B905
        if not own or needed > length:
            raise CorpusError(
                f"utterance {number} of the batch has {length} frames, but its {len(own)} tokens need {max(needed, 1)}; "
                "check the transcript or leave the utterance out"
            )
    graphs = k2.ctc_graph([list(own) for own in tokens], modified=False, device=log_probs.device)
    return lattices(log_probs, lengths, graphs)


def ctc_total_scores(log_probs: Tensor, lengths: Tensor, tokens: Sequence[Sequence[int]]) -> Tensor:
    """(N,) log-probability of each transcript: the negative of the CTC loss (Graves et al. 2006). See `ctc_lattice`."""
    return total_scores(ctc_lattice(log_probs, lengths, tokens))


def ctc_best_paths(log_probs: Tensor, lengths: Tensor, tokens: Sequence[Sequence[int]]) -> list[Tensor]:
    """Class ids of each utterance's best CTC path, (T,) int64 each, blanks 0. See `ctc_lattice`."""
    k2 = import_k2()
    best = k2.shortest_path(ctc_lattice(log_probs, lengths, tokens), use_double_scores=True)
    paths = []
    for number in range(best.shape[0]):
        labels = best[number].labels
        paths.append(labels[labels >= 0].to(torch.int64))  # -1 marks the arc to the final state
    return paths
