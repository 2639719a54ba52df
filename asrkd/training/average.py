"""The exponential moving average of the weights, which becomes the result of a training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage:
    """`averaged.update_parameters(model)` of an exponential average, bit for bit, over tensors that are listed once.

    To list, detach and group them again after each update takes longer than to average the weights of a small student.

    Args:
        averaged: holds the average and its state.
        model: on the same device; its parameters and buffers stay the same objects.
        decay: of the average; 0 keeps the last weights.
    """

    def __init__(self, averaged: AveragedModel, model: nn.Module, decay: float) -> None:
        self._count, self._share = averaged.n_averaged, 1 - decay
        self._kept: list[Tensor] = list(averaged.module.parameters())
        self._weights: list[Tensor] = list(model.parameters())
        self._buffers = list(zip(averaged.module.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self) -> None:
        """Count an update of the model; the first makes the average a copy of it. Buffers are copied each time."""
        if int(self._count) == 0:
            torch._foreach_copy_(self._kept, self._weights)
        else:
            torch._foreach_lerp_(self._kept, self._weights, self._share)
        for kept, buffer in self._buffers:
            kept.copy_(buffer)
        self._count += 1
