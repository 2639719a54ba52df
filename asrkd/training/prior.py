"""Priors of the classes of an `hmm` model, by which decoding divides its posteriors."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asrkd.corpus.inventory import Inventory
from asrkd.errors import ConfigError, MismatchError
from asrkd.store.prior import log_prior
from asrkd.store.reader import Store
from asrkd.streaming.batch import Batch

if TYPE_CHECKING:
    from asrkd.training.config import TrainConfig


def fixed_prior(config: TrainConfig, inventory: Inventory, initial: Tensor | None) -> Tensor | None:
    """(V,) log-priors that are known before training: of the store `prior`, or those that it starts with.

    Raises:
        ConfigError: a `ctc` model with a prior.
        MismatchError: a store of other units.
    """
    if not inventory.topology.needs_prior:
        if config.prior:
            raise ConfigError(
                f"prior is {config.prior!r}, but a {inventory.topology_name!r} model has no use for priors; leave it out"
            )
        return None
    if not config.prior:
        return initial
    store = Store.open(config.prior)
    if store.identity.inventory != inventory:
        raise MismatchError(
            f"prior: the store {config.prior!r} has targets over other units than the model; give one of the same inventory"
        )
    return torch.from_numpy(log_prior(store))


@torch.no_grad()
def mean_output(
    model: nn.Module, batches: Iterable[Batch], num_classes: int, device: torch.device, *, most: int = 40
) -> Tensor:
    """(V,) log of the mean posterior over at most `most` batches (Kaldi's `adjust-priors`), floored at 1e-5."""
    model.eval()
    total = torch.zeros(num_classes, dtype=torch.float64)
    for batch in itertools.islice(batches, most):
        batch = batch.to(device)
        logits, lengths = model(batch.features, batch.feature_lengths)
        mask = torch.arange(logits.shape[1], device=logits.device)[None] < lengths[:, None]
        total += logits.softmax(-1)[mask].double().sum(dim=0).cpu()
    return (total / total.sum()).clamp_min(1e-5).log().float()
