"""CTC over k2 graphs: total scores and best paths. Written for the API that k2 1.23.4 and 1.24 share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asrkd.errors import CorpusError, DependencyError


def import_k2() -> Any:
    """The k2 module.

    Raises:
        DependencyError: k2 is not installed.
    """
    try:
        import k2
    except ImportError:
        raise DependencyError(
            "this needs k2, which is not installed; install the wheel that was built for your torch from k2's index: "
            "pip install k2 -f https://k2-fsa.github.io/k2/cpu.html (cuda.html for GPUs)"
        ) from None
    return k2


def ctc_lattice(log_probs: Tensor, lengths: Tensor, tokens: Sequence[Sequence[int]], *, beam: float = 1e10) -> Any:
    """Every path of each utterance's tokens through its log-probabilities, as an FsaVec of N lattices.

    The graph has k2's standard CTC topology: blanks (class 0) between tokens, and at least one between two equal ones.

    Args:
        log_probs: (N, T, V) natural-log probabilities; gradients flow to them through the lattice's scores.
        lengths: (N,) frames of each utterance.
        tokens: class ids of each utterance's transcript, none of them 0.
        beam: `intersect_dense`'s output beam; the default keeps every path.

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
    # k2 wants the segments in order of decreasing length.
    order = torch.argsort(lengths.cpu(), descending=True, stable=True)
    segments = torch.stack([order, torch.zeros_like(order), lengths.cpu()[order]], dim=1).to(torch.int32)
    graphs = k2.ctc_graph([list(tokens[i]) for i in order.tolist()], modified=False, device=log_probs.device)
    lattice = k2.intersect_dense(graphs, k2.DenseFsaVec(log_probs, segments), beam)
    back = torch.argsort(order).to(device=log_probs.device, dtype=torch.int32)
    return k2.index_fsa(lattice, back)


def ctc_total_scores(log_probs: Tensor, lengths: Tensor, tokens: Sequence[Sequence[int]]) -> Tensor:
    """(N,) log-probability of each transcript: the negative of the CTC loss (Graves et al. 2006). See `ctc_lattice`."""
    return ctc_lattice(log_probs, lengths, tokens).get_tot_scores(log_semiring=True, use_double_scores=True)


def ctc_align(log_probs: Tensor, lengths: Tensor, tokens: Sequence[Sequence[int]]) -> list[Tensor]:
    """Class ids of each utterance's best CTC path, (T,) int64 each, blanks 0. See `ctc_lattice`."""
    k2 = import_k2()
    best = k2.shortest_path(ctc_lattice(log_probs, lengths, tokens), use_double_scores=True)
    paths = []
    for number in range(best.shape[0]):
        labels = best[number].labels
        paths.append(labels[labels >= 0].to(torch.int64))  # -1 marks the arc to the final state
    return paths
