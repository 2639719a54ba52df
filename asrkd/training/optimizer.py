"""The optimizer of a training, torch's own, by the config."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from asrkd.training.config import OptimizerConfig


def make_optimizer(parameters: Iterable[nn.Parameter], settings: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), or SGD with Nesterov's momentum (Sutskever et al. 2013).

    AdamW divides by the root of the mean square of what it is given. Where compressed gradients (`scale.gtc_threshold`) come in rare pieces of one
    size, it makes shorter steps than with whole ones, by the root of the share of updates that bring something; SGD's are as long.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.name == "sgd":
        momentum = settings.momentum
        return torch.optim.SGD(parameters, lr=rate, momentum=momentum, weight_decay=decay, nesterov=momentum > 0)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
