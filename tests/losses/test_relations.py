"""Relational losses against plain loops in double precision, and gradcheck."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from asrkd.errors import MismatchError
from asrkd.losses.relations import attention_kl, attention_transfer, frame_similarity, utterance_similarity

LENGTHS = torch.tensor([4, 2, 1])


def features(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def test_frame_similarity_equals_a_plain_loop_and_does_not_see_padding() -> None:
    student, teacher = features(3, 4, 5), features(3, 4, 2, seed=1).detach()
    expected = 0.0
    for s, t, length in zip(student, teacher, LENGTHS.tolist(), strict=True):
        pairs = [(cosine(s[i], s[j]) - cosine(t[i], t[j])) ** 2 for i in range(length) for j in range(length)]
        expected += sum(pairs) / length
    assert float(frame_similarity(student, teacher, LENGTHS)) == pytest.approx(expected, rel=1e-9)
    assert gradcheck(lambda x: frame_similarity(x, teacher, LENGTHS), (student,))
    padded = teacher.clone()
    padded[1, 2:], padded[2, 1:] = 100.0, -7.0
    assert float(frame_similarity(student, padded, LENGTHS)) == pytest.approx(expected, rel=1e-9)


def test_utterance_similarity_equals_a_plain_loop() -> None:
    student, teacher = features(4, 5), features(4, 3, seed=1).detach()
    pairs = [(cosine(student[i], student[j]) - cosine(teacher[i], teacher[j])) ** 2 for i in range(4) for j in range(4)]
    assert float(utterance_similarity(student, teacher)) == pytest.approx(sum(pairs) / 16, rel=1e-9)
    assert gradcheck(lambda x: utterance_similarity(x, teacher), (student,))


def test_attention_transfer_equals_a_plain_loop_and_a_rotation_costs_nothing() -> None:
    student, teacher = features(3, 4, 5), features(3, 4, 2, seed=1).detach()
    expected = 0.0
    for s, t, length in zip(student, teacher, LENGTHS.tolist(), strict=True):
        energies = [[float(frame @ frame) / len(frame) for frame in one[:length]] for one in (s, t)]
        a, b = ([e / math.sqrt(sum(x * x for x in one)) for e in one] for one in energies)
        expected += sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    assert float(attention_transfer(student, teacher, LENGTHS)) == pytest.approx(expected, rel=1e-9)
    assert gradcheck(lambda x: attention_transfer(x, teacher, LENGTHS), (student,))
    turned = student.detach() @ torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    assert float(attention_transfer(2 * turned, student.detach(), LENGTHS)) == pytest.approx(0, abs=1e-12)


def test_attention_kl_equals_a_plain_loop_also_where_the_teacher_looks_away() -> None:
    def rows(seed: int, grad: bool) -> Tensor:
        scores = features(3, 2, 4, 4, seed=seed).detach()
        for n, length in enumerate(LENGTHS.tolist()):
            scores[n, :, :, length:] = -torch.inf
        return scores.softmax(-1).requires_grad_(grad)

    student, teacher = rows(0, True), rows(1, False)
    teacher[0, 0, 1] = torch.tensor([1.0, 0, 0, 0])
    expected = 0.0
    for n, length in enumerate(LENGTHS.tolist()):
        for p, q in zip(
            teacher[n, :, :length, :length].reshape(-1), student[n, :, :length, :length].reshape(-1), strict=True
        ):
            expected += float(p) * math.log(float(p) / float(q)) / 2 if p > 0 else 0
    loss = attention_kl(student, teacher, LENGTHS)
    assert float(loss) == pytest.approx(expected, rel=1e-9)
    assert bool(torch.isfinite(torch.autograd.grad(loss, student)[0]).all())
    assert float(attention_kl(teacher, teacher, LENGTHS)) == pytest.approx(0, abs=1e-12)
    scores, other = features(3, 2, 4, 4, seed=2), features(3, 2, 4, 4, seed=3).detach().softmax(-1)
    full = torch.tensor([4, 4, 4])
    assert gradcheck(lambda x: attention_kl(x.softmax(-1), other, full), (scores,))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(MismatchError, match=r"utterances, frames\) \(2, 3\), the teacher \(2, 4\)"):
        frame_similarity(torch.zeros(2, 3, 5), torch.zeros(2, 4, 5), torch.tensor([3, 3]))
    with pytest.raises(MismatchError, match=r"\(2, 3, 4, 4\), the teacher \(2, 1, 4, 4\)"):
        attention_kl(torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4), torch.tensor([4, 4]))
