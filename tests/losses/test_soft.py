from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from asrkd.errors import ConfigError, MismatchError
from asrkd.losses.features import feature_cosine
from asrkd.losses.hard import frame_cross_entropy
from asrkd.losses.soft import POLICIES, soft_cross_entropy, soft_kl
from asrkd.targets.codecs import Dense, TopK
from asrkd.targets.packed import as_stored
from asrkd.targets.sparse import SparseTargets


def sparse(dense_p: np.ndarray, keep: np.ndarray) -> SparseTargets:
    """Soft targets that keep the marked classes of (M, V) probabilities."""
    counts = keep.sum(axis=1)
    with np.errstate(divide="ignore"):
        log_p = np.log(dense_p)
    missing = 1.0 - np.where(keep, dense_p, 0.0).sum(axis=1)
    parts = (counts, np.nonzero(keep)[1], log_p[keep], missing)
    return SparseTargets.of_counts(*map(torch.from_numpy, parts), num_classes=dense_p.shape[1])


def oracle(logits: Tensor, p: np.ndarray, keep: np.ndarray, policy: str, temperature: float) -> Tensor:
    """The same by dense arithmetic, one frame at a time."""
    total = logits.sum() * 0.0
    num_classes = logits.shape[1]
    for t in range(len(p)):
        log_q = (logits[t] / temperature).log_softmax(0)
        kept = torch.tensor(np.where(keep[t], p[t], 0.0), dtype=logits.dtype)
        mask = torch.tensor(keep[t])
        missing = 1.0 - kept.sum() if not keep[t].all() else kept.new_zeros(())
        rest = int((~mask).sum())
        if policy == "uniform" and rest:
            full = torch.where(mask, kept, missing / rest) ** (1 / temperature)
            full = full / full.sum()
            total = total - (full * log_q).sum()
            continue
        bucket = missing ** (1 / temperature) if policy in ("zero", "ghost") and missing > 0 else kept.new_zeros(())
        tempered = torch.where(kept > 0, kept ** (1 / temperature), torch.zeros_like(kept))
        scale = tempered.sum() + bucket
        if scale > 0:
            total = total - ((tempered / scale) * log_q)[mask].sum()
            if policy == "ghost" and rest and missing > 0:
                total = total - bucket / scale * log_q[~mask].logsumexp(0)
    assert num_classes
    return total * temperature**2


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("temperature", [1.0, 2.0, 20.0])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), frames=st.integers(0, 5), classes=st.integers(2, 9), share=st.floats(0, 1))
def test_loss_and_gradient_equal_the_dense_computation(
    policy: str, temperature: float, seed: int, frames: int, classes: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.5), frames).reshape(frames, classes)
    keep = rng.random((frames, classes)) < share
    logits = torch.tensor(rng.normal(size=(frames, classes)) * 3, requires_grad=True)
    found = soft_cross_entropy(logits, sparse(p, keep), missing_mass=policy, temperature=temperature)
    expected = oracle(logits, p, keep, policy, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    if frames:
        (gradient,) = torch.autograd.grad(found, logits, allow_unused=True)
        (reference,) = torch.autograd.grad(expected, logits, allow_unused=True)
        torch.testing.assert_close(
            gradient, torch.zeros_like(logits) if reference is None else reference, rtol=1e-8, atol=1e-9
        )


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_gradcheck_with_one_hot_uniform_and_empty_frames(policy: str, temperature: float) -> None:
    p = np.array([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    keep = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)
    logits = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    given_targets = sparse(p, keep)
    torch.autograd.gradcheck(
        lambda x: soft_cross_entropy(x, given_targets, missing_mass=policy, temperature=temperature), (logits,)
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_stored_targets_give_the_loss_and_gradient_of_a_live_teacher(policy: str) -> None:
    generator = torch.Generator().manual_seed(1)
    teacher = (torch.randn(30, 12, generator=generator) * 3).log_softmax(1)
    logits = torch.randn(30, 12, generator=generator).double().requires_grad_()
    live = -(teacher.double().exp() * logits.log_softmax(1)).sum()
    (live_gradient,) = torch.autograd.grad(live, logits)
    # dense is exact; topk:V is off by at most 2^-12 nat in each log-probability.
    for codec, tolerance in ((Dense(), 1e-6), (TopK(12), 3e-4)):
        batch = as_stored(codec, teacher)
        loss = soft_cross_entropy(logits, batch, missing_mass=policy)
        (gradient,) = torch.autograd.grad(loss, logits)
        torch.testing.assert_close(loss, live, rtol=tolerance, atol=0)
        torch.testing.assert_close(gradient, live_gradient, rtol=0, atol=max(tolerance, 1e-6))


class Largest(TorchDispatchMode):
    """Counts the tensors of at least `size` elements that operations make."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.names = size, []  # type: ignore[var-annotated]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.numel() >= self.size and result.untyped_storage().nbytes():
            self.names.append(str(func))
        return result


@pytest.mark.parametrize("policy", ["zero", "renormalize", "uniform"])
def test_no_dense_target_is_built(policy: str) -> None:
    frames, classes = 16, 5000
    logits = torch.randn(frames, classes)
    targets = as_stored(TopK(20), torch.randn(frames, classes).log_softmax(1))
    with Largest(frames * classes) as seen:
        soft_cross_entropy(logits, targets, missing_mass=policy)
    assert sorted(seen.names) == ["aten._log_softmax.default"]  # the student's own


@pytest.mark.parametrize("temperature", [1.0, 2.0, 20.0])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_kl_is_the_divergence_of_the_completed_distributions(temperature: float, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(6, 0.5), 4)
    keep = rng.random((4, 6)) < share
    given_targets = sparse(p, keep)
    logits = torch.tensor(rng.normal(size=(4, 6)))
    log_q = (logits / temperature).log_softmax(1)

    def kl(policy: str) -> Tensor:
        return soft_kl(logits, given_targets, missing_mass=policy, temperature=temperature, reduction="none")

    kept = torch.tensor(np.where(keep, p, 0.0))
    missing = (1 - kept.sum(1)).clamp(min=0) * torch.tensor(~keep.all(1))
    mask = torch.tensor(keep)
    spread = torch.where(mask, kept, (missing / (~mask).sum(1).clamp(min=1))[:, None]) ** (1 / temperature)
    spread = spread / spread.sum(1, keepdim=True)
    reference = torch.nn.functional.kl_div(log_q, spread, reduction="none").sum(1) * temperature**2
    torch.testing.assert_close(kl("uniform"), reference, rtol=1e-8, atol=1e-8)

    bucket = torch.cat([kept, missing[:, None]], 1) ** (1 / temperature)
    bucket = bucket / bucket.sum(1, keepdim=True)
    # A class that is not kept has probability 0 in `bucket`, whatever stands in its column of the student.
    q = torch.cat([log_q, torch.where(mask, 0.0, log_q.exp()).sum(1, keepdim=True).clamp(min=1e-300).log()], 1)
    reference = torch.nn.functional.kl_div(q, bucket, reduction="none").sum(1) * temperature**2
    torch.testing.assert_close(kl("ghost"), reference, rtol=1e-8, atol=1e-8)
    for policy in ("renormalize", "uniform", "ghost"):
        assert (kl(policy) >= -1e-9).all()


@pytest.mark.parametrize("policy", POLICIES)
def test_kl_has_the_gradient_of_the_cross_entropy_and_vanishes_at_agreement(policy: str) -> None:
    teacher = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).log_softmax(1)
    given_targets = sparse(teacher.exp().numpy(), np.ones((5, 7), dtype=bool))
    logits = torch.zeros(5, 7, dtype=torch.float64, requires_grad=True)
    gradients = [
        torch.autograd.grad(loss(logits, given_targets, missing_mass=policy, temperature=2.0), logits)[0]
        for loss in (soft_kl, soft_cross_entropy)
    ]
    torch.testing.assert_close(*gradients)
    agreed = soft_kl(teacher, given_targets, missing_mass=policy, temperature=2.0)
    torch.testing.assert_close(agreed, torch.zeros_like(agreed), rtol=0, atol=1e-12)


def test_ghost_is_exact_where_the_student_leaves_next_to_nothing() -> None:
    # 1 - sum q is 2 exp(-60), far below the resolution of a sum near 1.
    logits = torch.tensor([[0.0, -60.0, -60.0]], requires_grad=True)
    loss = soft_cross_entropy(
        logits,
        SparseTargets.of_counts(
            torch.tensor([1]), torch.tensor([0]), torch.tensor([0.9]).log(), torch.tensor([0.1]), num_classes=3
        ),
        missing_mass="ghost",
    )
    assert loss.item() == pytest.approx(0.1 * (60 - np.log(2)), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, torch.tensor([[0.1, -0.05, -0.05]]))


@pytest.mark.parametrize("policy", POLICIES)
def test_half_precision_logits_are_summed_in_single_precision(policy: str) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(8, 4000, generator=generator).bfloat16().requires_grad_()
    targets = as_stored(TopK(20), torch.randn(8, 4000, generator=generator).log_softmax(1))
    found = soft_cross_entropy(logits, targets, missing_mass=policy, temperature=2.0)
    exact = soft_cross_entropy(logits.detach().double(), targets, missing_mass=policy, temperature=2.0)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)
    assert torch.autograd.grad(found, logits)[0].dtype == torch.bfloat16


def test_a_missing_mass_rounded_below_zero_is_none() -> None:
    given_targets = SparseTargets.of_counts(
        torch.tensor([1]), torch.tensor([1]), torch.tensor([0.0]), torch.tensor([-1e-7]), num_classes=3
    )
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    for policy in POLICIES:
        loss = soft_cross_entropy(logits, given_targets, missing_mass=policy, temperature=2.0)
        torch.testing.assert_close(loss, -4 * (logits / 2).log_softmax(1)[0, 1])


def test_wrong_settings_are_refused() -> None:
    given_targets = sparse(np.array([[0.5, 0.5]]), np.array([[True, False]]))
    logits = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(ConfigError, match="'none_such'.*renormalize"):
        soft_cross_entropy(logits, given_targets, missing_mass="none_such")
    with pytest.raises(ConfigError, match="temperature is 0"):
        soft_cross_entropy(logits, given_targets, temperature=0.0)
    with pytest.raises(ConfigError, match="reduction is 'mean'"):
        soft_cross_entropy(logits, given_targets, reduction="mean")
    with pytest.raises(MismatchError, match="2 frames, the targets 1"):
        soft_cross_entropy(torch.zeros(2, 2), given_targets)
    with pytest.raises(MismatchError, match="the student has 1 classes, the targets are over 2"):
        soft_cross_entropy(torch.zeros(1, 1), given_targets)


@pytest.mark.parametrize("policy", POLICIES)
def test_gradcheck_of_the_divergence(policy: str) -> None:
    p = np.array([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.4, 0.3, 0.2, 0.1]])
    keep = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]], dtype=bool)
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    given_targets = sparse(p, keep)
    torch.autograd.gradcheck(lambda x: soft_kl(x, given_targets, missing_mass=policy, temperature=2.0), (logits,))


def test_one_hot_and_uniform_targets_and_a_high_temperature_behave_as_the_equations_say() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    everything = np.ones((5, 6), dtype=bool)
    one_hot = np.eye(6)[[0, 3, 5, 1, 1]]
    hard = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 3, 5, 1, 1]), reduction="sum")
    torch.testing.assert_close(soft_cross_entropy(logits, sparse(one_hot, one_hot > 0)), hard)
    uniform = sparse(np.full((5, 6), 1 / 6), everything)
    torch.testing.assert_close(soft_cross_entropy(logits, uniform), -logits.log_softmax(1).mean(1).sum())
    # A uniform teacher is uniform at every temperature.
    torch.testing.assert_close(
        soft_cross_entropy(logits, uniform, temperature=20.0), -400 * (logits / 20).log_softmax(1).mean(1).sum()
    )
    # Hinton et al. 2015, equation 4: at a high temperature the gradient matches logits, (z - v) / V with means taken off.
    teacher = torch.randn(5, 6, dtype=torch.float64, generator=generator)
    targets = sparse(teacher.softmax(1).numpy(), everything)
    (gradient,) = torch.autograd.grad(soft_cross_entropy(logits, targets, temperature=1e4), logits)
    centered = [one - one.mean(1, keepdim=True) for one in (logits.detach(), teacher)]
    torch.testing.assert_close(gradient, (centered[0] - centered[1]) / 6, rtol=1e-3, atol=1e-4)


def test_the_sum_of_task_soft_and_cosine_losses_of_distilbert() -> None:
    """Sanh et al. 2019: three functions and two plus signs."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    hidden = torch.randn(4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = torch.randn(4, 5, dtype=torch.float64, generator=generator).softmax(1)
    layer = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    labels = torch.tensor([[0, 2, 4, 1]])
    targets = sparse(teacher.numpy(), np.ones((4, 5), dtype=bool))

    def loss(logits: Tensor, hidden: Tensor) -> Tensor:
        task, _ = frame_cross_entropy(logits[None], labels)
        return 2.0 * task + 5.0 * soft_kl(logits, targets, temperature=2.0) + feature_cosine(hidden, layer)

    log_q = (logits / 2).log_softmax(1)
    tempered = (teacher.log() / 2).softmax(1)
    expected = 2.0 * torch.nn.functional.cross_entropy(logits, labels[0], reduction="sum")
    expected = expected + 5.0 * 4.0 * (tempered * (tempered.log() - log_q)).sum()
    expected = expected + (1 - torch.nn.functional.cosine_similarity(hidden, layer)).sum()
    torch.testing.assert_close(loss(logits, hidden), expected, rtol=1e-9, atol=1e-9)
    torch.autograd.gradcheck(loss, (logits, hidden))
