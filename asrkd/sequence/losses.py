"""Sequence-discriminative losses over lattices: MMI and LF-MMI, sMBR, MWER."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asrkd.errors import ConfigError, CorpusError
from asrkd.sequence.dependency import import_k2
from asrkd.sequence.lattice import Beam, lattices, occupancies, total_scores


@dataclass(frozen=True)
class SequenceLoss:
    """Losses of a batch.

    Attributes:
        losses: (N,) float64, 0 for what was skipped; gradients flow to the scores.
        skipped: why an utterance has no loss, by its number in the batch.
    """

    losses: Tensor
    skipped: dict[int, str]


def mmi(
    scores: Tensor,
    lengths: Tensor,
    numerators: Any,
    denominator: Any,
    *,
    beam: Beam | None = None,
    boost: float = 0.0,
    reject: float = 0.0,
    alignment: Tensor | None = None,
) -> SequenceLoss:
    """Maximum mutual information: minus the log-probability of the transcript's paths among all of the denominator's.

    With a word graph as denominator this is lattice-based MMI (Bahl et al. 1986; for networks Vesely et al. 2013), with
    `graphs.denominator` it is LF-MMI (Povey et al. 2016). With `boost` b > 0 the denominator's paths lose b for each frame that is right
    (boosted MMI, Povey et al. 2008, with frame accuracy), with `reject` frames at which the denominator gives the right class a smaller
    probability have no gradient (frame rejection, Vesely et al. 2013, section 4).

    Args:
        scores: (N, T, V) natural-log scores, already scaled; posteriors less priors for `hmm`, posteriors for `ctc`.
        lengths: (N,) frames.
        numerators: FsaVec of N graphs (`graphs.numerators`).
        denominator: one graph for all.
        beam: of the denominator; None keeps every path.
        boost: b.
        reject: lowest probability, e.g. 1e-4.
        alignment: (N, T) right classes, negative after the end; needed for `boost` and `reject`.

    Raises:
        ConfigError: `boost` or `reject` without an alignment.
        CorpusError, ConfigError: as for `lattices`.
    """
    right = _right(scores, alignment) if boost or reject else None
    if reject and right is not None:
        kept = (occupancies(scores, lengths, denominator, beam=beam) * right).sum(2, keepdim=True) >= reject
        scores = torch.where(kept | ~right.any(2, keepdim=True), scores, scores.detach())
    numerator = total_scores(lattices(scores, lengths, numerators))
    boosted = scores - boost * right if boost and right is not None else scores
    total = total_scores(lattices(boosted, lengths, denominator, beam=beam))
    skipped = _without_paths(
        numerator, "its transcript has no path: too few frames, or not allowed by the phone language model"
    )
    skipped |= _without_paths(total, "its lattice is empty: widen the beam")
    return _finished(total - numerator, skipped)


def smbr(
    scores: Tensor,
    lengths: Tensor,
    graph: Any,
    alignment: Tensor,
    *,
    beam: Beam | None = None,
    ignore: Sequence[int] = (),
) -> SequenceLoss:
    """State-level minimum Bayes risk: the expected number of frames in a wrong class (Gibson & Hain 2006; Kingsbury 2009).

    The expectation is over all paths of the lattice: sum over arcs of their posteriors, for arcs that are wrong.

    Args:
        scores: (N, T, V) natural-log scores, already scaled.
        lengths: (N,) frames.
        graph: one graph for all.
        alignment: (N, T) right classes, negative after the end.
        beam: None keeps every path.
        ignore: right classes whose frames do not count, e.g. silence.

    Raises:
        CorpusError, ConfigError: as for `lattices`.
    """
    wrong = ~_right(scores, alignment)
    for label in ignore:
        wrong &= (alignment != label)[..., None]
    lattice = lattices(scores, lengths, graph, beam=beam, frames=True)
    totals = total_scores(lattice)
    posteriors = lattice.get_arc_post(use_double_scores=True, log_semiring=True).exp()
    rows = _utterance_of(lattice)
    real = lattice.labels >= 0
    risk = torch.zeros_like(posteriors)
    risk[real] = wrong[rows[real], lattice.frame[real].long(), lattice.labels[real].long()].to(risk.dtype)
    expected = torch.zeros_like(totals).index_add(0, rows, posteriors * risk)
    return _finished(expected, _without_paths(totals, "its lattice is empty: widen the beam"))


def mwer(
    scores: Tensor,
    lengths: Tensor,
    graph: Any,
    words: Sequence[Sequence[int]],
    *,
    beam: Beam,
    num_paths: int,
    nbest_scale: float = 0.5,
) -> SequenceLoss:
    """Minimum word error rate: the expected word errors over paths drawn from the lattice (Prabhavalkar et al. 2018), by `k2.mwer_loss`.

    Args:
        scores: (N, T, V) natural-log scores, already scaled.
        lengths: (N,) frames.
        graph: one decoding graph for all, its `aux_labels` words.
        words: right words of each utterance.
        beam: of the lattice.
        num_paths: drawn for each utterance; equal word sequences count once.
        nbest_scale: multiplies scores while drawing; smaller gives more different paths.

    Raises:
        CorpusError, ConfigError: as for `lattices`.
    """
    k2 = import_k2()
    lattice = lattices(scores, lengths, graph, beam=beam)
    skipped = _without_paths(total_scores(lattice), "its lattice is empty: widen the beam")
    skipped |= {n: "its transcript is empty" for n, own in enumerate(words) if not own and n not in skipped}
    chosen = [n for n in range(len(words)) if n not in skipped]
    losses = torch.zeros(len(words), dtype=torch.float64, device=scores.device)
    if chosen:
        kept = k2.index_fsa(lattice, torch.tensor(chosen, dtype=torch.int32, device=scores.device))
        expected = k2.mwer_loss(
            kept,
            [list(words[n]) for n in chosen],
            nbest_scale=nbest_scale,
            num_paths=num_paths,
            use_double_scores=True,
            reduction="none",
        ).sum()
        losses = losses.index_add(0, torch.tensor(chosen, device=scores.device), expected.double())
    return _finished(losses, skipped)


def _right(scores: Tensor, alignment: Tensor | None) -> Tensor:
    """(N, T, V) bool: the right class of each frame."""
    if alignment is None:
        raise ConfigError("boosting and frame rejection need the right class of each frame; give the alignment")
    if alignment.shape != scores.shape[:2]:
        raise CorpusError(
            f"the alignment is of shape {tuple(alignment.shape)}, the scores of {tuple(scores.shape)}; they must agree in utterances and frames"
        )
    return alignment[..., None] == torch.arange(scores.shape[2], device=scores.device)


def _utterance_of(lattice: Any) -> Tensor:
    """(num_arcs,) number of the utterance that each arc belongs to."""
    shape = lattice.arcs.shape()
    return shape.row_ids(1).long()[shape.row_ids(2).long()]


def _without_paths(totals: Tensor, why: str) -> dict[int, str]:
    return {int(n): why for n in (~torch.isfinite(totals.detach())).nonzero().flatten()}


def _finished(losses: Tensor, skipped: dict[int, str]) -> SequenceLoss:
    mask = torch.zeros(len(losses), dtype=torch.bool, device=losses.device)
    mask[list(skipped)] = True
    return SequenceLoss(torch.where(mask, torch.zeros_like(losses), losses), dict(sorted(skipped.items())))
