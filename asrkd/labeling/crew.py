"""Who labels on a machine: worker processes, their devices, and their readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from asrkd.acoustic.model import check_device
from asrkd.errors import ConfigError
from asrkd.labeling.teacher_identity import check_teacher
from asrkd.labeling.worker import READ_SECONDS, Labeler
from asrkd.store import Store


@dataclass(frozen=True)
class Crew:
    """Who labels on a machine.

    Attributes:
        workers: processes that run the teacher; on a CPU with one thread each, so that any number gives the same bytes.
        devices: of torch, which the workers take in turn.
        readers: processes of each worker that read audio and make features; 0 uses a thread, which no watchdog can end.
        read_seconds: timeout for reading a batch, with reader processes.

    Raises:
        ConfigError: a value that cannot be.
    """

    workers: int = 1
    devices: Sequence[str] = ("cpu",)
    readers: int = 0
    read_seconds: float = READ_SECONDS

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers is {self.workers}, but must be at least 1")
        if self.readers < 0:
            raise ConfigError(f"readers is {self.readers}, but must be at least 0")
        if not self.read_seconds > 0:
            raise ConfigError(f"read_seconds is {self.read_seconds}, but must be above 0")

    def labeler(self, store: Store, number: int = 0, may_commit: Callable[[int], bool] | None = None) -> Labeler:
        """The labeler of worker `number`, with its teacher loaded.

        Raises:
            ConfigError: the device cannot be used.
            MismatchError, ModelError: the teacher is not the store's, or cannot be loaded.
        """
        device = self.devices[number % len(self.devices)] if self.devices else ""
        check_device(device)
        teacher = check_teacher(store, device)
        return Labeler(store, teacher, readers=self.readers, read_seconds=self.read_seconds, may_commit=may_commit)


ALONE = Crew()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums in the same order whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
