"""Blockwise model-update filtering (Chen & Huo 2016, "Scalable training of deep learning machines by incremental block training with
intra-block parallel optimization and blockwise model-update filtering").

Each process trains on its own for a block of updates. Then the mean of their models gives the block's update G, which is filtered with a
block momentum, and all continue from the result:

    D(t) = momentum D(t-1) + rate G(t),   W(t) = W(t-1) + D(t)

With Nesterov's momentum the next block starts at W(t) + momentum D(t), otherwise at W(t).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from asrkd.errors import ConfigError


class BlockMomentum:
    """The filter over a model's parameters.

    Attributes:
        center: W(t), the model of the last block's end; what is evaluated and kept.
        bytes_sent: that this process sent, by a ring.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        momentum: float,
        rate: float = 1.0,
        nesterov: bool = True,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """
        Args:
            parameters: those of the model, and buffers of floats; the same on all processes.
            momentum: of blocks, from 0 to below 1. The paper takes 1 - 1 / (number of processes).
            rate: of blocks, above 0.
            group: of the processes; None for all, or for a process by itself.

        Raises:
            ConfigError: a momentum or rate that cannot be.
        """
        if not 0 <= momentum < 1:
            raise ConfigError(f"the block momentum is {momentum}, but must be at least 0 and below 1")
        if not rate > 0:
            raise ConfigError(f"the block learning rate is {rate}, but must be above 0")
        self.parameters = list(parameters)
        self.momentum, self.rate, self.nesterov, self.group = momentum, rate, nesterov, group
        self.center = [parameter.detach().clone() for parameter in self.parameters]
        self._start = [parameter.detach().clone() for parameter in self.parameters]
        self._delta = [torch.zeros_like(parameter) for parameter in self.center]
        self.bytes_sent = 0

    @torch.no_grad()
    def end_block(self) -> None:
        """Average the models of all processes, filter the block's update, and set the parameters to where the next block starts."""
        world_size = dist.get_world_size(self.group) if dist.is_initialized() else 1
        for number, parameter in enumerate(self.parameters):
            mean = parameter.detach().clone()
            if world_size > 1:
                dist.all_reduce(mean, group=self.group)
                mean /= world_size
                self.bytes_sent += round(2 * (world_size - 1) / world_size * mean.numel() * mean.element_size())
            update = mean - self._start[number]
            before = self._delta[number]
            after = self.momentum * before + self.rate * update
            # W(t-1) + D(t), written so that one process with momentum 0 and rate 1 keeps its model bit for bit.
            center = mean + (self.rate - 1) * update
            if not self.nesterov:
                center += self.momentum * before
            start = center + self.momentum * after if self.nesterov else center
            self.center[number], self._delta[number], self._start[number] = center, after, start.clone()
            parameter.copy_(start)

    @contextmanager
    def at_center(self) -> Iterator[None]:
        """Inside, the parameters are W(t)."""
        with torch.no_grad():
            for parameter, center in zip(self.parameters, self.center, strict=True):
                parameter.copy_(center)
        yield
        with torch.no_grad():
            for parameter, start in zip(self.parameters, self._start, strict=True):
                parameter.copy_(start)

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Everything that the next block needs."""
        return {"center": self.center, "start": self._start, "delta": self._delta}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Continue where a state was taken, with the same model."""
        for name, mine in (("center", self.center), ("start", self._start), ("delta", self._delta)):
            for tensor, saved in zip(mine, state[name], strict=True):
                tensor.copy_(saved)
