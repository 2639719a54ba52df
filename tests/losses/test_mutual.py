"""Mutual learning against a plain loop in double precision, and gradcheck."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from asrkd.errors import MismatchError
from asrkd.losses.mutual import mutual_kl


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("students", [1, 2, 3])
def test_each_student_follows_the_mean_of_its_peers(students: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(5, 4, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(students)]
    losses = [
        mutual_kl(one, [*logits[:number], *logits[number + 1 :]], temperature=temperature)
        for number, one in enumerate(logits)
    ]
    probs = [(one.detach() / temperature).softmax(1) for one in logits]
    for number, loss in enumerate(losses):
        terms = [
            float((probs[other] * (probs[other] / probs[number]).log()).sum()) * temperature**2
            for other in range(students)
            if other != number
        ]
        assert float(loss.detach()) == pytest.approx(sum(terms) / max(len(terms), 1), rel=1e-9, abs=1e-12)
    if students > 1:
        peers = [one.detach() for one in logits[1:]]
        assert gradcheck(lambda x: mutual_kl(x, peers, temperature=temperature), (logits[0],))
        # Nothing flows into the peers.
        gradients = torch.autograd.grad(losses[0], logits, allow_unused=True)
        assert gradients[0].abs().sum() > 0 and all(one is None for one in gradients[1:])


def test_students_that_agree_have_nothing_to_tell() -> None:
    logits = torch.randn(3, 4)
    assert float(mutual_kl(logits, [logits.clone()])) == pytest.approx(0, abs=1e-6)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(MismatchError, match=r"\(3, 4\) and \(3, 5\)"):
        mutual_kl(torch.zeros(3, 4), [torch.zeros(3, 5)])
