from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.errors import ConfigError
from asrkd.losses import delay_window_cross_entropy, delayed, soft_cross_entropy
from asrkd.losses.soft import POLICIES
from asrkd.targets.codecs import TopK
from asrkd.targets.packed import as_stored
from asrkd.targets.sparse import SparseTargets

CLASSES = 5


def case(lengths: list[int], k: int, seed: int) -> tuple[torch.Tensor, SparseTargets]:
    generator = torch.Generator().manual_seed(seed)
    parts = [(torch.randn(one, CLASSES, generator=generator) * 2).log_softmax(1) for one in lengths]
    logits = torch.randn(sum(lengths), CLASSES, generator=generator, dtype=torch.float64, requires_grad=True)
    return logits, SparseTargets.cat([as_stored(TopK(k), part) for part in parts])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=3),
    st.integers(1, CLASSES),
    st.integers(0, 4),
    st.integers(0, 5),
    st.sampled_from(POLICIES),
    st.sampled_from([1.0, 2.0]),
    st.integers(0, 2**31),
)
def test_each_frame_has_its_best_delay_as_in_a_plain_loop(
    lengths: list[int], k: int, delay: int, window: int, policy: str, temperature: float, seed: int
) -> None:
    logits, targets = case(lengths, k, seed)
    options = {"missing_mass": policy, "temperature": temperature}
    losses, delays = delay_window_cross_entropy(
        logits, targets, torch.tensor(lengths), window=window, delay=delay, **options
    )
    expected, chosen, start = [], [], 0
    for length in lengths:
        for t in range(length):
            best, best_delay = torch.tensor(0.0, dtype=torch.float64), -1
            for shift in range(delay, delay + window + 1):
                if t + shift < length:
                    cost = soft_cross_entropy(
                        logits[start + t + shift][None], targets.frames(torch.tensor([start + t])), **options
                    )
                    if best_delay < 0 or float(cost.detach()) < float(best.detach()):
                        best, best_delay = cost, shift
            expected.append(best)
            chosen.append(best_delay)
        start += length
    np.testing.assert_array_equal(delays.numpy(), np.array(chosen, dtype=np.int64))
    if not expected:
        return
    total = torch.stack(expected)
    torch.testing.assert_close(losses, total)
    weights = torch.rand(len(total), dtype=torch.float64)
    if max(chosen) >= 0:
        found, wanted = (torch.autograd.grad((one * weights).sum(), logits)[0] for one in (losses, total))
        torch.testing.assert_close(found, wanted)


def test_without_a_window_it_is_the_fixed_delay() -> None:
    lengths = torch.tensor([6, 3])
    logits, targets = case([6, 3], 3, 0)
    losses, delays = delay_window_cross_entropy(logits, targets, lengths, window=0, delay=2)
    student, teacher = delayed(lengths, 2)
    torch.testing.assert_close(losses.sum(), soft_cross_entropy(logits[student], targets.frames(teacher)))
    assert delays.tolist() == [2, 2, 2, 2, -1, -1, 2, -1, -1]


def test_a_student_that_is_late_by_no_more_than_the_window_loses_nothing() -> None:
    """Labels each late by another delay: within the window their divergence is 0, with a fixed delay it is not."""
    teacher = torch.full((12, CLASSES), 1e-3)
    teacher[:, 0] = 1.0
    student = teacher.clone()
    for place, shift, label in ((1, 0, 1), (4, 2, 2), (8, 1, 3)):
        teacher[place, label], student[place + shift, label] = 1e3, 1e3
    targets = as_stored(TopK(CLASSES), teacher.log().log_softmax(1))
    lengths = torch.tensor([12])
    exact = soft_cross_entropy(teacher.log(), targets, reduction="none")
    losses, delays = delay_window_cross_entropy(student.log(), targets, lengths, window=2)
    torch.testing.assert_close(losses, exact, rtol=1e-3, atol=1e-4)
    assert delays[[1, 4, 8]].tolist() == [0, 2, 1]
    fixed, _ = delay_window_cross_entropy(student.log(), targets, lengths, window=0, delay=1)
    assert float(fixed.sum()) > 10 * float(exact.sum())


def test_a_window_or_delay_below_zero_is_refused() -> None:
    logits, targets = case([3], 2, 0)
    for values, message in (({"window": -1}, "delay_window is -1"), ({"window": 1, "delay": -1}, "delay is -1")):
        with pytest.raises(ConfigError, match=message):
            delay_window_cross_entropy(logits, targets, torch.tensor([3]), **values)
