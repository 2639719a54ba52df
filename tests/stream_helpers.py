"""A loader over two small stores, the comparison of its batches, and gradients over ranks, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asrkd.corpus.augment import Augment, Gain, NoiseAugment, SpecAugment
from asrkd.corpus.front_end import FrontEnd
from asrkd.losses.soft import soft_cross_entropy
from asrkd.store import Store
from asrkd.streaming.batch import Batch
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source

FRONT_END = FrontEnd(sampling_rate=8000, num_mels=4, stack=2, stride=2, mean_norm="none")
NOISE = NoiseAugment([np.random.default_rng(0).standard_normal(2000).astype(np.float32)], (0, 20), 0.5)
MIXTURE = {"soft": 3, "labeled": 1}


def make_loader(roots: Mapping[str, str], *, repeat: bool = True, **changes: Any) -> Loader:
    """A loader of all the stores, with every kind of augmentation."""
    sources = {name: Source(name, Store.open(root), repeat=repeat) for name, root in roots.items()}
    options: dict[str, Any] = {
        "front_end": FRONT_END,
        "max_frames": 60,
        "max_utterances": 4,
        "seed": 3,
        "augment": Augment((NOISE, Gain()), (SpecAugment(max_frequency=2),)),
    }
    return Loader(sources, **(options | changes))


def same_batches(first: Sequence[Batch], second: Sequence[Batch]) -> bool:
    """Whether all fields of all batches are equal, tensors bit for bit."""
    return len(first) == len(second) and all(map(_same, first, second))


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if hasattr(first, "__dataclass_fields__"):
        return all(_same(getattr(first, item.name), getattr(second, item.name)) for item in fields(first))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    return bool(first == second)


def gradients(root: str, rank: int, world_size: int) -> list[Tensor]:
    """Of a linear model, summed over this rank's batches of each global batch."""
    loader = make_loader({"soft": root}, streams=4, rank=rank, world_size=world_size)
    steps = loader.steps({"soft": 1})
    found = []
    for _ in range(3):
        weight = torch.linspace(-1, 1, 3 * FRONT_END.feature_dim, dtype=torch.float64).view(3, -1).requires_grad_()
        for batch in next(steps):
            (mean_loss(batch, weight) * batch.weight).backward()
        found.append(torch.zeros_like(weight) if weight.grad is None else weight.grad)
    return found


def mean_loss(batch: Batch, weight: Tensor) -> Tensor:
    """Of a linear model, per frame."""
    mask = torch.arange(batch.features.shape[1])[None] < batch.feature_lengths[:, None]
    logits = batch.features.double()[mask] @ weight.T
    targets = batch.targets
    assert targets is not None
    return soft_cross_entropy(logits, targets)


def summed_gradients(rank: int, world_size: int, root: str) -> list[Tensor]:
    """The gradients of all ranks added up, for `rank_helpers.on_ranks`."""
    summed = gradients(root, rank, world_size)
    for gradient in summed:
        torch.distributed.all_reduce(gradient)
    return summed
