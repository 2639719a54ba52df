"""Feature losses against plain loops in double precision, and gradcheck."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from asrkd.errors import ConfigError, MismatchError
from asrkd.losses.features import codebook_cross_entropy, feature_cosine, feature_mse


def features(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)


def test_mse_and_cosine_equal_a_plain_loop() -> None:
    student, teacher = features(7, 4), features(7, 4, seed=1).detach()
    plain = list(zip(student.detach(), teacher, strict=True))
    squares = [sum(float(a - b) ** 2 for a, b in zip(x, y, strict=True)) / 4 for x, y in plain]
    angles = [1 - float(x @ y) / float((x @ x) * (y @ y)) ** 0.5 for x, y in plain]
    for loss, expected in ((feature_mse, squares), (feature_cosine, angles)):
        found = loss(student, teacher, reduction="none")
        torch.testing.assert_close(found.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(loss(student, teacher), found.sum())
        assert gradcheck(lambda x, loss=loss: loss(x, teacher), (student,))


def test_features_that_agree_cost_nothing_and_silent_ones_are_finite() -> None:
    teacher = features(3, 5).detach()
    assert feature_mse(teacher, teacher) == 0
    torch.testing.assert_close(feature_cosine(3 * teacher, teacher), torch.zeros((), dtype=torch.float64))
    silent = torch.zeros(3, 5, requires_grad=True)
    loss = feature_cosine(silent, teacher.float())
    assert float(loss) == 3 and bool(torch.isfinite(torch.autograd.grad(loss, silent)[0]).all())


def test_half_precision_is_computed_in_single() -> None:
    student = torch.full((2, 3), 300.0, dtype=torch.float16)
    assert float(feature_mse(student, -student)) == 2 * 600.0**2  # beyond the largest half-precision number


def test_codebook_cross_entropy_equals_a_plain_loop() -> None:
    logits = features(4, 3, 6)
    indexes = torch.tensor([[0, 5, 2], [1, 1, 1], [5, 0, 3], [2, 4, 0]])
    expected = [sum(-float(logits[m, c].log_softmax(0)[indexes[m, c]]) for c in range(3)) for m in range(4)]
    found = codebook_cross_entropy(logits, indexes, reduction="none")
    torch.testing.assert_close(found.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    assert gradcheck(lambda x: codebook_cross_entropy(x, indexes), (logits,))
    assert float(codebook_cross_entropy(logits[:0], indexes[:0])) == 0


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(MismatchError, match=r"\(3, 4\).*\(3, 5\).*linear layer"):
        feature_mse(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(MismatchError, match=r"\(2, 3\).*\(2, 4\)"):
        codebook_cross_entropy(torch.zeros(2, 3, 6), torch.zeros(2, 4, dtype=torch.int64))
    for index in (-1, 6):
        with pytest.raises(MismatchError, match="6 entries a codebook"):
            codebook_cross_entropy(torch.zeros(1, 1, 6), torch.tensor([[index]]))
    with pytest.raises(ConfigError, match="reduction is 'mean'"):
        feature_cosine(torch.zeros(1, 2), torch.zeros(1, 2), reduction="mean")
