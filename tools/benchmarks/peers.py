"""How others store posteriors, written from their papers and documentation, to be compared with by `codecs.py`.

Each takes the (T, V) log-posteriors of an utterance and a generator, and gives the columns of bytes that it would store and
what a reader gets back. Columns go into Parquet with zstd as ours do; nobody's identity, ids or statistics are counted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.targets.sparse import SparseTargets

Stored = tuple[dict[str, bytes], SparseTargets]


def study_top_20(log_probs: Tensor, generator: torch.Generator) -> Stored:
    """The 20 highest posteriors, 16-bit ids and 16-bit values (Parthasarathi & Ström 2019, section 3.2): 80 bytes a frame."""
    values, ids = log_probs.topk(20, dim=1)
    stored = values.half()
    columns = {"ids": ids.numpy().astype("<u2").tobytes(), "values": stored.numpy().tobytes()}
    return columns, _kept(ids, stored.double().exp(), log_probs.shape[1])


def distillkit(k: int, exact: int, terms: tuple[Callable[[Tensor], Tensor], ...]) -> Callable[..., Stored]:
    """DistillKit's logprob_compressor: `exact` bfloat16 log-probs, a float32 polynomial through the others, bit-packed ids.

    After its README ("Logit compression") with no residual bins; fitted by least squares over the rank among the others.
    """

    def store(log_probs: Tensor, generator: torch.Generator) -> Stored:
        num_classes = log_probs.shape[1]
        values, ids = log_probs.topk(k, dim=1)
        head = values[:, :exact].bfloat16()
        ranks = torch.arange(k - exact, dtype=torch.float64)
        basis = torch.stack([term(ranks) for term in terms], dim=1)
        fitted = (values[:, exact:].double() @ torch.linalg.pinv(basis).T).float()
        approximate = torch.cat([head.double(), fitted.double() @ basis.T], dim=1).clamp_max(0.0)
        bits = int(num_classes - 1).bit_length()
        columns = {
            "bytepacked_indices": np.packbits((ids.numpy()[..., None] >> np.arange(bits)) & 1, axis=None).tobytes(),
            "exact": head.view(torch.int16).numpy().tobytes(),
            "terms": fitted.numpy().tobytes(),
        }
        return columns, _kept(ids, approximate.exp(), num_classes)

    return store


def plain_sampling(draws: int) -> Callable[..., Stored]:
    """`draws` independent draws as ids and counts, without any packing (Anshumann et al. 2025)."""

    def store(log_probs: Tensor, generator: torch.Generator) -> Stored:
        drawn = torch.multinomial(log_probs.double().exp(), draws, replacement=True, generator=generator)
        probs = torch.zeros(log_probs.shape, dtype=torch.float64)
        probs.scatter_add_(1, drawn, torch.full(drawn.shape, 1.0 / draws, dtype=torch.float64))
        frames, ids = probs.nonzero(as_tuple=True)
        counts = (probs[frames, ids] * draws).round().to(torch.uint8)
        entries = torch.bincount(frames, minlength=len(probs))
        columns = {
            "entries": entries.numpy().astype(np.uint8).tobytes(),
            "ids": ids.numpy().astype("<u2").tobytes(),
            "counts": counts.numpy().tobytes(),
        }
        return columns, _csr(entries.numpy(), ids.numpy(), probs[frames, ids].numpy(), log_probs.shape[1])

    return store


PEERS: dict[str, Callable[..., Stored]] = {
    "the study's top-20": study_top_20,
    "DistillKit, budget": distillkit(50, 1, (torch.ones_like, lambda t: t, torch.sqrt)),
    "DistillKit, recommended": distillkit(
        128, 16, (torch.ones_like, lambda t: t, lambda t: t**2, lambda t: t**3, lambda t: t**4, torch.sqrt)
    ),
    "plain sampling, 22": plain_sampling(22),
    "plain sampling, 50": plain_sampling(50),
}


def _kept(ids: Tensor, probs: Tensor, num_classes: int) -> SparseTargets:
    """The same number of classes of every frame; what they leave of 1 is missing."""
    order = ids.argsort(dim=1)
    entries = np.full(len(ids), ids.shape[1])
    return _csr(
        entries, ids.gather(1, order).reshape(-1).numpy(), probs.gather(1, order).reshape(-1).numpy(), num_classes
    )


def _csr(entries: NDArray, ids: NDArray, probs: NDArray, num_classes: int) -> SparseTargets:
    frames = np.repeat(np.arange(len(entries)), entries)
    kept = np.bincount(frames, weights=probs, minlength=len(entries))
    log_probs = np.log(np.maximum(probs, 1e-30)).astype(np.float32)
    missing = np.clip(1.0 - kept, 0.0, 1.0).astype(np.float32)
    parts = (entries.astype(np.int64), ids.astype(np.int64), log_probs, missing)
    return SparseTargets.of_counts(*map(torch.from_numpy, parts), num_classes=num_classes)
