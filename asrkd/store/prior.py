"""Class priors from stored targets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asrkd.errors import StoreError
from asrkd.store.reader import Store
from asrkd.targets.streams import POSTERIORS

# A class that was never kept still has a finite score.
FLOOR = 1e-5


def mean_posterior(store: Store) -> NDArray[np.float64]:
    """(V,) mean of the stored posteriors over all frames, of sum 1: the priors of the classes.

    With an unbiased codec (`sampled`, `hybrid`) it estimates the mean of the teacher's whole posteriors; with `topk` and `nucleus`
    classes that are often left out come out too small. Hybrid systems divide by it (Bourlard & Morgan 1994; Kaldi's `adjust-priors`).

    Raises:
        StoreError: no store, a store without soft targets, or one without a finished frame.
    """
    if POSTERIORS not in store.identity.streams:
        raise StoreError(
            f"{store.root!r} has no soft targets to take priors from; give a store that a teacher has labeled"
        )
    total = np.zeros(len(store.identity.units))
    for targets in store.all_targets():
        total += np.bincount(targets.ids.numpy(), np.exp(targets.log_probs.numpy().astype(np.float64)), len(total))
    if not total.any():
        raise StoreError(f"{store.root!r} has no labeled frame yet, so it gives no priors; run asrkd label run first")
    return total / total.sum()


def log_prior(store: Store) -> NDArray[np.float32]:
    """(V,) natural log of `mean_posterior`, floored at 1e-5."""
    return np.log(np.maximum(mean_posterior(store), FLOOR)).astype(np.float32)
