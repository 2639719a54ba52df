"""The processes of one training: who they are, as torchrun says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

# Its functions have the group of all processes as a default argument. Loaded after `join` (optimizers load it), they would keep that group.
import torch.distributed.nn

from asrkd.errors import ConfigError


@dataclass(frozen=True)
class Ranks:
    """This process among those of the training; a process by itself is rank 0 of 1."""

    rank: int = 0
    world_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, on the first; an empty list on the others."""
        if self.world_size == 1:
            return [value]
        values: list[Any] | None = [None] * self.world_size if self.first else None
        dist.gather_object(value, values)
        return values or []

    def broadcast(self, value: Any) -> Any:
        """The first rank's value, on all."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]


ALONE = Ranks()


def join(device: str, init_method: str | None = None) -> tuple[Ranks, str]:
    """Meet the other processes that torchrun started, if it did; and the device of this one.

    Args:
        device: of the config; `cuda` becomes `cuda:LOCAL_RANK`.
        init_method: where the processes meet, as of `torch.distributed.init_process_group`; None for where torchrun says.

    Raises:
        ConfigError: one device is named for several processes, or the environment of torchrun is not whole.
    """
    if not dist.is_torchelastic_launched() and "WORLD_SIZE" not in os.environ:
        return ALONE, device
    try:
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"WORLD_SIZE is set, but RANK is not a number or not there ({error}); start by torchrun, or unset it"
        ) from None
    if world_size == 1:
        return ALONE, device
    if device.startswith("cuda:"):
        raise ConfigError(
            f"device is {device!r}, which {world_size} processes would share; set device: cuda, and each takes its own"
        )
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, init_method=init_method, rank=rank, world_size=world_size)
    return Ranks(rank, world_size), device


def leave() -> None:
    """Part from the other processes; nothing if there are none.

    Drop what holds the group first (a trainer, a DDP module). Otherwise gloo's threads live on, and one that still frees a tensor when Python
    ends aborts the process.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
