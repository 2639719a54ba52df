from __future__ import annotations

import itertools

import pytest
import torch

k2 = pytest.importorskip("k2", reason="k2 is not installed; CI runs this on Python 3.10 with k2 1.23.4")

from asrkd.errors import CorpusError  # noqa: E402
from asrkd.sequence.ctc import ctc_best_paths, ctc_total_scores  # noqa: E402

LENGTHS = torch.tensor([4, 6, 5])
TOKENS = [[1, 2], [2, 2, 1], [3]]


def batch() -> torch.Tensor:
    return torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0)).log_softmax(-1)


def paths_of(tokens: list[int], length: int) -> list[tuple[int, ...]]:
    """Every frame-by-frame path that collapses to the tokens."""

    def collapse(path: tuple[int, ...]) -> list[int]:
        return [unit for i, unit in enumerate(path) if unit and (i == 0 or path[i - 1] != unit)]

    return [path for path in itertools.product(range(4), repeat=length) if collapse(path) == tokens]


def test_total_scores_and_best_paths_equal_enumeration() -> None:
    log_probs = batch()
    totals = ctc_total_scores(log_probs, LENGTHS, TOKENS)
    aligned = ctc_best_paths(log_probs, LENGTHS, TOKENS)
    for n, (tokens, length) in enumerate(zip(TOKENS, LENGTHS.tolist())):  # noqa: B905
        paths = paths_of(tokens, length)
        scores = torch.stack([log_probs[n, range(length), path].sum() for path in paths])
        assert totals[n].item() == pytest.approx(scores.logsumexp(0).item(), abs=1e-5)
        assert tuple(aligned[n].tolist()) == paths[int(scores.argmax())]


def test_gradient_equals_torchs_ctc_loss() -> None:
    ours, theirs = batch().requires_grad_(), batch().requires_grad_()
    ctc_total_scores(ours, LENGTHS, TOKENS).sum().backward()
    flat = torch.tensor([unit for own in TOKENS for unit in own])
    sizes = torch.tensor([len(own) for own in TOKENS])
    # Through a log_softmax of its own, which is the identity here: torch's gradient is with respect to its input.
    loss = torch.nn.functional.ctc_loss(theirs.log_softmax(-1).transpose(0, 1), flat, LENGTHS, sizes, reduction="sum")
    loss.backward()
    probabilities = batch().exp()
    mask = (torch.arange(6)[None] < LENGTHS[:, None])[..., None]
    # d(total)/d(log p) are the posteriors; the loss's gradient with respect to logits is p - posteriors.
    torch.testing.assert_close((probabilities - ours.grad) * mask, theirs.grad * mask, rtol=1e-4, atol=1e-5)


def test_transcripts_that_do_not_fit_are_named() -> None:
    with pytest.raises(CorpusError, match="utterance 0 .*4 frames, but its 3 tokens need 5"):
        ctc_total_scores(batch(), LENGTHS, [[1, 1, 1], [2], [3]])
    with pytest.raises(CorpusError, match="utterance 2"):
        ctc_best_paths(batch(), LENGTHS, [[1], [2], []])
