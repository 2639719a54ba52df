from __future__ import annotations

import itertools

import pytest
import torch

from asrkd.errors import ConfigError, MismatchError
from asrkd.losses.hard import ctc_loss, frame_cross_entropy


def test_frame_cross_entropy_equals_a_plain_loop_and_counts_labeled_frames() -> None:
    logits = torch.randn(2, 4, 5, dtype=torch.float64)
    alignment = torch.tensor([[0, 3, 4, 1], [2, 2, -100, -100]])
    loss, frames = frame_cross_entropy(logits, alignment)
    expected = sum(
        -logits[n, t].log_softmax(0)[alignment[n, t]] for n in range(2) for t in range(4) if alignment[n, t] >= 0
    )
    torch.testing.assert_close(loss, expected)
    assert frames == 6


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_smoothed_labels_are_distributions_of_their_own(smoothing: float) -> None:
    logits = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    alignment = torch.tensor([[0, 3, 4], [2, -100, -100]])
    loss, _ = frame_cross_entropy(logits, alignment, label_smoothing=smoothing)
    expected = logits.new_zeros(())
    for n, t in ((0, 0), (0, 1), (0, 2), (1, 0)):
        target = torch.full((5,), smoothing / 5, dtype=torch.float64)
        target[alignment[n, t]] += 1 - smoothing
        expected = expected - (target * logits[n, t].log_softmax(0)).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    found, wanted = (torch.autograd.grad(one, logits)[0] for one in (loss, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-7)
    with pytest.raises(ConfigError, match="label_smoothing is 1.5"):
        frame_cross_entropy(logits, alignment, label_smoothing=1.5)


def test_frame_cross_entropy_without_labels_is_zero() -> None:
    logits = torch.randn(1, 3, 5, requires_grad=True)
    loss, frames = frame_cross_entropy(logits, torch.full((1, 3), -100))
    assert loss.item() == 0.0 and frames == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_labels_of_other_frames_or_classes_are_refused() -> None:
    with pytest.raises(MismatchError, match=r"\(1, 3\).*\(1, 4\).*subsampling"):
        frame_cross_entropy(torch.zeros(1, 3, 5), torch.zeros(1, 4, dtype=torch.int64))
    for label in (5, -1):
        with pytest.raises(MismatchError, match="has 5 classes"):
            frame_cross_entropy(torch.zeros(1, 3, 5), torch.tensor([[0, label, -100]]))


def collapse(path: tuple[int, ...]) -> list[int]:
    """The tokens of a CTC path: repeats joined, then blanks dropped."""
    return [unit for unit, _ in itertools.groupby(path) if unit != 0]


@pytest.mark.parametrize("tokens", [[[1], [2, 1]], [[], [1, 1]], [[2, 2], [1, 2, 1]]])
def test_ctc_equals_the_sum_over_all_paths(tokens: list[list[int]]) -> None:
    logits = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([4, 3])
    loss, too_short = ctc_loss(logits, lengths, tokens)
    log_q = logits.log_softmax(-1)
    expected = logits.sum() * 0
    for n, frames in enumerate(lengths.tolist()):
        paths = [path for path in itertools.product(range(3), repeat=frames) if collapse(path) == tokens[n]]
        scores = [torch.stack([log_q[n, t, unit] for t, unit in enumerate(path)]).sum() for path in paths]
        expected = expected - torch.stack(scores).logsumexp(0)
    torch.testing.assert_close(loss, expected)
    assert too_short == 0
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits)[0], torch.autograd.grad(expected, logits)[0], rtol=1e-8, atol=1e-8
    )


def test_ctc_counts_utterances_that_are_too_short_and_gives_them_no_gradient() -> None:
    logits = torch.randn(3, 3, 4, requires_grad=True)
    # Three tokens fit three frames, unless two equal neighbors need a blank between them.
    loss, too_short = ctc_loss(logits, torch.tensor([3, 3, 2]), [[1, 2, 3], [1, 1, 2], [1, 2, 3]])
    assert too_short == 2
    torch.testing.assert_close(loss, -logits[0].log_softmax(-1)[[0, 1, 2], [1, 2, 3]].sum())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0].any() and not gradient[1:].any()


def test_ctc_refuses_other_numbers_of_utterances() -> None:
    with pytest.raises(MismatchError, match="2 utterances of logits, 2 lengths and 1 transcripts"):
        ctc_loss(torch.zeros(2, 3, 4), torch.tensor([3, 3]), [[1]])


def test_gradcheck_of_both() -> None:
    logits = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    alignment = torch.tensor([[0, 3, 1, 2, 2], [1, 1, -100, -100, -100]])
    torch.autograd.gradcheck(lambda x: frame_cross_entropy(x, alignment, label_smoothing=0.1)[0], (logits,))
    lengths = torch.tensor([5, 3])
    torch.autograd.gradcheck(lambda x: ctc_loss(x, lengths, [[1, 2, 2], [3]])[0], (logits,))
