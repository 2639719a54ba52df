"""Soft cross-entropy on sparse targets, without ever building a dense (M, V) target.

For a frame with kept classes K, teacher probabilities p_i, missing mass m and student probabilities q:

- `zero`         -sum_K p_i log q_i                                   the missing mass is dropped
- `renormalize`  -sum_K (p_i / sum_K p) log q_i
- `uniform`      -sum_K p_i log q_i - m / (V - |K|) sum_{j not in K} log q_j
- `ghost`        -sum_K p_i log q_i - m log(1 - sum_K q_i)            all else is one class

At a temperature T (Hinton, Vinyals & Dean 2015) the student is softmax(logits / T), and the teacher's probabilities,
completed by the policy, are raised to 1/T and normalised: `zero` and `ghost` take the missing mass as one class (which
`zero` then drops), `uniform` as V - |K| equal ones, `renormalize` leaves it out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asrkd.errors import ConfigError, MismatchError
from asrkd.targets.sparse import SparseTargets

POLICIES = ("zero", "renormalize", "uniform", "ghost")
POLICY = "renormalize"


def soft_cross_entropy(
    logits: Tensor,
    targets: SparseTargets,
    *,
    missing_mass: str = POLICY,
    temperature: float = 1.0,
    scale_by_temperature_squared: bool = True,
    reduction: str = "sum",
) -> Tensor:
    """Cross-entropy of the student against sparse soft targets, in nats.

    Args:
        logits: (M, V) student logits, M frames.
        targets: of the same frames, over the same classes.
        missing_mass: the policy, one of `POLICIES`.
        temperature: T, above 0.
        scale_by_temperature_squared: multiply by T^2, so that gradients keep their size (Hinton et al., section 2).
        reduction: `sum` (a scalar) or `none` (M,).

    Raises:
        ConfigError: an unknown policy or reduction, or a temperature that is not above 0.
        MismatchError: the numbers of frames differ, or the targets are over more classes than the student has.
    """
    _check(missing_mass, temperature, reduction)
    num_frames, num_classes = logits.shape
    if targets.num_frames != num_frames:
        raise MismatchError(
            f"the student has {num_frames} frames, the targets {targets.num_frames}; they would be shifted against each other"
        )
    if targets.num_classes > num_classes:
        raise MismatchError(
            f"the student has {num_classes} classes, the targets are over {targets.num_classes}; they are of another inventory"
        )
    # A sum over many classes in half precision is worth nothing.
    exact = torch.promote_types(logits.dtype, torch.float32)
    log_q = (logits if temperature == 1.0 else logits.to(exact) / temperature).log_softmax(dim=1, dtype=exact)
    rows, ids, rest = targets.entry_frames, targets.ids, num_classes - targets.counts
    kept_log_q = log_q[rows, ids]
    log_p, log_missing = _tempered(targets, log_q.dtype, rows, rest, missing_mass, temperature)
    # p = 0 must give 0 also where log q is -inf.
    terms = torch.where(log_p > -torch.inf, log_p.exp() * kept_log_q, 0.0)
    loss = -_sum_rows(terms, rows, num_frames)
    if missing_mass == "uniform":
        spread = log_missing.exp() / rest.clamp(min=1)
        others = log_q.sum(dim=1) - _sum_rows(kept_log_q, rows, num_frames)
        loss = loss - torch.where((log_missing > -torch.inf) & (rest > 0), spread * others, 0.0)
    elif missing_mass == "ghost":
        hidden = torch.zeros_like(log_q, dtype=torch.bool).index_put((rows, ids), torch.tensor(True, device=ids.device))
        # Over the student's own scores: log(1 - sum q) would lose everything as the sum nears 1.
        log_rest = log_q.masked_fill(hidden, -torch.inf).logsumexp(dim=1)
        used = (log_missing > -torch.inf) & (rest > 0)
        loss = loss - torch.where(used, log_missing.exp() * torch.where(used, log_rest, 0.0), 0.0)
    if scale_by_temperature_squared:
        loss = loss * temperature**2
    return loss.sum() if reduction == "sum" else loss


def soft_kl(
    logits: Tensor,
    targets: SparseTargets,
    *,
    missing_mass: str = POLICY,
    temperature: float = 1.0,
    scale_by_temperature_squared: bool = True,
    reduction: str = "sum",
) -> Tensor:
    """Divergence KL(teacher || student), in nats: `soft_cross_entropy` less the teacher's entropy, which is constant.

    Its gradient is that of the cross-entropy; its value says how far the student is (0 when it agrees, but for `zero`,
    which drops terms of both). Arguments and errors as in `soft_cross_entropy`.
    """
    _check(missing_mass, temperature, reduction)
    loss = soft_cross_entropy(
        logits,
        targets,
        missing_mass=missing_mass,
        temperature=temperature,
        scale_by_temperature_squared=scale_by_temperature_squared,
        reduction="none",
    )
    rows, rest = targets.entry_frames, logits.shape[1] - targets.counts
    log_p, log_missing = _tempered(targets, loss.dtype, rows, rest, missing_mass, temperature)
    negative_entropy = _sum_rows(torch.xlogy(log_p.exp(), log_p.exp()), rows, targets.num_frames)
    if missing_mass in ("uniform", "ghost"):
        bucket = log_missing.exp()
        classes = rest.clamp(min=1) if missing_mass == "uniform" else 1
        negative_entropy = negative_entropy + torch.xlogy(bucket, bucket / classes)
    loss = loss + negative_entropy * (temperature**2 if scale_by_temperature_squared else 1.0)
    return loss.sum() if reduction == "sum" else loss


def _check(missing_mass: str, temperature: float, reduction: str) -> None:
    if missing_mass not in POLICIES:
        raise ConfigError(f"missing_mass is {missing_mass!r}, but must be one of {', '.join(POLICIES)}")
    if not temperature > 0:
        raise ConfigError(f"temperature is {temperature}, but must be above 0")
    if reduction not in ("sum", "none"):
        raise ConfigError(f"reduction is {reduction!r}, but must be 'sum' or 'none'")


def _tempered(
    targets: SparseTargets, exact: torch.dtype, rows: Tensor, rest: Tensor, policy: str, temperature: float
) -> tuple[Tensor, Tensor]:
    """The teacher's log-probabilities of the entries (E,) and of the missing mass (M,) at a temperature."""
    num_frames = targets.num_frames
    log_probs, missing = targets.log_probs.to(exact), targets.missing.to(exact)
    # Rounding may leave a missing mass a little below 0.
    log_missing = torch.where(rest > 0, missing.clamp(min=0.0), 0.0).log()
    if policy == "renormalize":
        log_missing = torch.full_like(log_missing, -torch.inf)
    elif temperature == 1.0:
        return log_probs, log_missing
    log_p = log_probs / temperature
    if policy == "uniform":
        # rest classes of m / rest each: rest (m / rest)^(1/T).
        many = rest.clamp(min=1).to(log_p).log()
        log_missing = (log_missing - many) / temperature + many
    else:
        log_missing = log_missing / temperature
    high = torch.full_like(log_missing, -torch.inf).scatter_reduce(0, rows, log_p, "amax")
    high = torch.maximum(high, log_missing)
    high = torch.where(high > -torch.inf, high, 0.0)
    total = _sum_rows((log_p - high[rows]).exp(), rows, num_frames) + (log_missing - high).exp()
    log_total = torch.where(total > 0, total, 1.0).log() + high
    return log_p - log_total[rows], log_missing - log_total


def _sum_rows(values: Tensor, rows: Tensor, num_frames: int) -> Tensor:
    return values.new_zeros(num_frames).index_add(0, rows, values)
