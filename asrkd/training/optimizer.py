"""The optimizer of a training, torch's own, by the config."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from asrkd.config import check, setting


@dataclass
class OptimizerConfig:
    """The optimizer and its learning rate: linear warm-up, then cosine decay over the whole schedule."""

    name: str = setting("adamw", one_of=("adamw", "sgd"))
    """`adamw`, or `sgd` with Nesterov momentum."""
    learning_rate: float = setting(0.001, above=0)
    """Peak learning rate."""
    momentum: float = setting(0.9, at_least=0, below=1)
    """Nesterov momentum of `sgd`; 0 disables it."""
    weight_decay: float = setting(0.0, at_least=0)
    """Weight decay."""
    warmup_steps: int = setting(100, at_least=0)
    """Updates of linear warm-up."""
    final_scale: float = setting(0.02, at_least=0)
    """Learning rate at the end, as a fraction of the peak."""
    clip_norm: float = setting(5.0, above=0, infinite=True)
    """Largest norm of the gradient; `.inf` disables clipping."""
    ema_decay: float = setting(0.99, at_least=0, below=1)
    """Decay of the exponential moving average of the weights, which is the trained model; 0 disables averaging."""

    def __post_init__(self) -> None:
        check(self, "optimizer")


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
