"""What every backend has in common: who labels, and a job from the units that are missing to its summary."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from asrkd.acoustic.model import check_device
from asrkd.errors import ConfigError, CorpusError
from asrkd.labeling.plan import check_teacher
from asrkd.labeling.quarantine import quarantined, quarantined_units
from asrkd.labeling.worker import READ_SECONDS, Labeler, UnitResult
from asrkd.processes import check_guard
from asrkd.store import Store
from asrkd.store.files import check_writable
from asrkd.store.identity import Identity

UnitProgress = Callable[[UnitResult, int, int], None]
# Of a store's identity and units: labels these and gives their results, in any order.
Results = Callable[[Identity, list[int]], Generator[UnitResult, None, None]]


@dataclass(frozen=True)
class RunSummary:
    """What a run did: units labeled by it, units found finished, seconds of audio labeled."""

    labeled: int
    found: int
    seconds: float


@dataclass(frozen=True)
class Crew:
    """Who labels on a machine.

    Attributes:
        workers: processes that run the teacher; on a CPU with one thread each, so that any number gives the same bytes.
        devices: of torch, which the workers take in turn.
        readers: processes of each worker that read audio and make features; 0 uses a thread, which no watchdog can end.
        read_seconds: that reading a batch may take, with reader processes.

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

    def labeler(self, root: str, identity: Identity, number: int = 0, **options: Any) -> Labeler:
        """The labeler of worker `number`, with its teacher loaded.

        Raises:
            ConfigError: the device cannot be used.
            MismatchError, ModelError: the teacher is not the store's, or cannot be loaded.
        """
        device = self.devices[number % len(self.devices)] if self.devices else ""
        check_device(device)
        teacher = check_teacher(root, identity, device)
        return Labeler(root, identity, teacher, readers=self.readers, read_seconds=self.read_seconds, **options)


ALONE = Crew()


def finish(root: str, results: Results, *, max_quarantined: float, progress: UnitProgress | None) -> RunSummary:
    """Label, by `results`, every unit of a store that has no shard yet.

    Args:
        root: the store, planned before.
        results: labels units.
        max_quarantined: share of the planned cuts that may be bad before the job stops.
        progress: called after each unit with its result, the finished units and all units.

    Raises:
        ConfigError: a share outside 0..1.
        MismatchError: a shard that is there is not the store's.
        CorpusError: more bad cuts than `max_quarantined` allows.
    """
    check_guard()
    if not 0 <= max_quarantined <= 1:
        raise ConfigError(f"max_quarantined is {max_quarantined}, but must be a share from 0 to 1")
    store = Store.open(root)
    planned, num_cuts = int(store.manifest.plan["num_units"]), int(store.manifest.plan["num_cuts"])
    finished = store.units()
    store.check(finished)
    missing = sorted(set(range(planned)) - set(finished))
    if missing:
        check_writable(root)
    bad = [entry for unit in set(quarantined_units(root)) & set(finished) for entry in quarantined(root, unit)]
    seconds = 0.0
    with closing(results(store.identity, missing)) as found:
        for number, result in enumerate(found, 1):
            seconds += result.seconds
            bad += result.quarantined
            if progress:
                progress(result, len(finished) + number, planned)
            check_share(bad, num_cuts, max_quarantined)
    check_share(bad, num_cuts, max_quarantined)
    return RunSummary(len(missing), len(finished), seconds)


def check_share(bad: list[tuple[str, str]], num_cuts: int, allowed: float) -> None:
    """Raise `CorpusError` if more cuts are bad than the allowed share."""
    if len(bad) > allowed * num_cuts:
        raise CorpusError(
            f"{len(bad)} of {num_cuts} cuts cannot be labeled, more than the share of {allowed} that is allowed; the first: "
            f"{bad[0][1]}. Mend the corpus and plan again, or raise --max-quarantined (all reasons: quarantine/ in the store)"
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums in the same order whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
