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

POLICIES = ("zero", "renormalize", "uniform", "ghost")


def soft_cross_entropy(
    logits: Tensor,
    row_splits: Tensor,
    ids: Tensor,
    log_probs: Tensor,
    missing: Tensor,
    *,
    missing_mass: str = "renormalize",
    temperature: float = 1.0,
    scale_by_temperature_squared: bool = True,
    reduction: str = "sum",
) -> Tensor:
    """Cross-entropy of the student against sparse soft targets, in nats.

    Args:
        logits: (M, V) student logits, M frames.
        row_splits: (M + 1,) int64; the entries of frame t are `row_splits[t]:row_splits[t + 1]`.
        ids: (E,) int64 class ids, each at most once a frame.
        log_probs: (E,) natural-log teacher probabilities at temperature 1.
        missing: (M,) teacher mass that is not among the entries.
        missing_mass: the policy, one of `POLICIES`.
        temperature: T, above 0.
        scale_by_temperature_squared: multiply by T^2, so that gradients keep their size (Hinton et al., section 2).
        reduction: `sum` (a scalar) or `none` (M,).

    Raises:
        ConfigError: an unknown policy or reduction, or a temperature that is not above 0.
        MismatchError: the numbers of frames differ.
    """
    if missing_mass not in POLICIES:
        raise ConfigError(f"missing_mass is {missing_mass!r}, but must be one of {', '.join(POLICIES)}")
    if not temperature > 0:
        raise ConfigError(f"temperature is {temperature}, but must be above 0")
    if reduction not in ("sum", "none"):
        raise ConfigError(f"reduction is {reduction!r}, but must be 'sum' or 'none'")
    num_frames, num_classes = logits.shape
    if len(row_splits) != num_frames + 1 or len(missing) != num_frames:
        raise MismatchError(
            f"the student has {num_frames} frames, the targets {len(missing)}; they would be shifted against each other"
        )
    log_q = (logits / temperature).log_softmax(dim=1)
    counts = row_splits.diff()
    rows = torch.repeat_interleave(torch.arange(num_frames, device=logits.device), counts, output_size=len(ids))
    kept_log_q = log_q[rows, ids]
    rest = num_classes - counts
    log_p, log_missing = _tempered(log_probs.to(log_q), missing.to(log_q), rows, rest, missing_mass, temperature)
    # p = 0 must give 0 also where log q is -inf.
    terms = torch.where(log_p > -torch.inf, log_p.exp() * kept_log_q, 0.0)
    loss = -_sum_rows(terms, rows, num_frames)
    if missing_mass == "uniform":
        spread = log_missing.exp() / rest.clamp(min=1)
        others = log_q.sum(dim=1) - _sum_rows(kept_log_q, rows, num_frames)
        loss = loss - torch.where((log_missing > -torch.inf) & (rest > 0), spread * others, 0.0)
    elif missing_mass == "ghost":
        hidden = torch.zeros_like(log_q, dtype=torch.bool).index_put((rows, ids), torch.tensor(True, device=ids.device))
        log_rest = log_q.masked_fill(hidden, -torch.inf).logsumexp(dim=1)
        used = (log_missing > -torch.inf) & (rest > 0)
        loss = loss - torch.where(used, log_missing.exp() * torch.where(used, log_rest, 0.0), 0.0)
    if scale_by_temperature_squared:
        loss = loss * temperature**2
    return loss.sum() if reduction == "sum" else loss


def _tempered(
    log_probs: Tensor, missing: Tensor, rows: Tensor, rest: Tensor, policy: str, temperature: float
) -> tuple[Tensor, Tensor]:
    """The teacher's log-probabilities of the entries (E,) and of the missing mass (M,) at a temperature."""
    num_frames = len(missing)
    log_missing = torch.where(rest > 0, missing, 0.0).log()
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
