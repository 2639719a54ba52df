"""Batches from worker processes, from torch's DataLoader and from torchdata's, against those of one process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from itertools import islice
from typing import Any

import psutil
import pytest
import torch
from stream_helpers import MIXTURE, make_loader, same_batches
from torchdata.stateful_dataloader import StatefulDataLoader

from asrkd.errors import AsrkdError, ConfigError, MismatchError, StoreError
from asrkd.streaming.batch import Batch
from asrkd.streaming.loader import Loader
from asrkd.streaming.mixture import Phase

MakeStore = Callable[..., str]
SCHEDULE = [Phase(6, {"soft": 1}), Phase(50, MIXTURE)]


def _flat(steps: Any, count: int) -> list[Batch]:
    return [batch for step in islice(steps, count) for batch in step]


def _workers() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children():
        try:
            command = process.cmdline()
        except (psutil.ZombieProcess, psutil.NoSuchProcess):  # it has ended
            continue
        if "spawn_main" in " ".join(command):
            found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_change_no_batch_and_states_pass_between_any_number(roots: dict[str, str], num_workers: int) -> None:
    expected = _flat(make_loader(roots, streams=2).steps(SCHEDULE), 20)
    loader = make_loader(roots, streams=2, num_workers=num_workers, prefetch=2)
    try:
        start = loader.state_dict()
        assert same_batches(expected[:14], _flat(loader.steps(SCHEDULE), 7))
        state = json.loads(json.dumps(loader.state_dict()))
        processes = {process.pid for process in _workers()}
        assert len(processes) == num_workers
        # The same processes continue in another call, and from an earlier state.
        assert same_batches(expected[14:20], _flat(loader.steps(SCHEDULE), 3))
        loader.load_state_dict(start)
        assert same_batches(expected[:10], _flat(loader.steps(SCHEDULE), 5))
        loader.load_state_dict(state)
        assert same_batches(expected[14:], _flat(loader.steps(SCHEDULE), 13))
        assert {process.pid for process in _workers()} == processes
    finally:
        loader.close()
    alone = make_loader(roots, streams=2)
    alone.load_state_dict(state)
    assert same_batches(expected[14:], _flat(alone.steps(SCHEDULE), 13))
    assert not _workers()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_worker_that_dies_is_an_error_and_not_a_hang(roots: dict[str, str]) -> None:
    loader = make_loader(roots, num_workers=1, prefetch=1)
    steps = loader.steps(MIXTURE)
    taken = _flat(steps, 3)
    state = loader.state_dict()
    [worker] = _workers()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(AsrkdError, match="worker process of the loader died"):
        for _ in range(10):
            taken += next(steps)
            state = loader.state_dict()
    # What was handed out before it counts, and what comes next is what would have come.
    rest = make_loader(roots)
    rest.load_state_dict(state)
    assert same_batches(_flat(make_loader(roots).steps(MIXTURE), len(taken) + 4), taken + _flat(rest.steps(MIXTURE), 4))


@pytest.mark.slow
def test_damage_in_a_worker_keeps_its_kind_and_message(make_store: MakeStore) -> None:
    def broken(number: int, row: dict[str, Any]) -> None:
        row["audio"] = {"bytes": b"fLaC" + bytes(50), "path": None}

    loader = make_loader({"s": make_store(rows=3, shards=1, change=broken)}, num_workers=1)
    try:
        with pytest.raises(StoreError, match="^the embedded audio of utterance 'u.' of source 's' cannot be decoded"):
            next(loader.steps({"s": 1}))
    finally:
        loader.close()


def _stateful(loader: Loader, num_workers: int) -> StatefulDataLoader:
    return StatefulDataLoader(
        loader.reader,
        sampler=loader.keys(MIXTURE),
        batch_size=None,
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
    )


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_dataloader_goes_on_exactly(roots: dict[str, str], num_workers: int) -> None:
    expected = [batch for step in islice(make_loader(roots, streams=2).steps(MIXTURE), 8) for batch in step]
    loader = _stateful(make_loader(roots, streams=2), num_workers)
    batches = iter(loader)
    assert same_batches(expected[:5], list(islice(batches, 5)))
    # Within a global batch, and with batches read ahead.
    state = loader.state_dict()
    again = _stateful(make_loader(roots, streams=2), num_workers)
    again.load_state_dict(state)
    assert same_batches(expected[5:9], list(islice(iter(again), 4)))
    third = _stateful(make_loader(roots, streams=2), num_workers)
    third.load_state_dict(again.state_dict())
    assert same_batches(expected[9:], list(islice(iter(third), 7)))


def test_a_stateful_dataloader_of_other_data_or_ranks_is_refused(roots: dict[str, str], make_store: MakeStore) -> None:
    loader = _stateful(make_loader(roots, streams=2), 0)
    list(islice(iter(loader), 5))
    state = loader.state_dict()
    other = _stateful(make_loader(roots | {"soft": make_store("u", rows=24)}, streams=2), 0)
    other.load_state_dict(state)
    with pytest.raises(MismatchError, match="source soft"):
        iter(other)
    ranks = _stateful(make_loader(roots, streams=2, world_size=2), 0)
    ranks.load_state_dict(state)
    with pytest.raises(MismatchError, match="global batch of 1 ranks, and there are 2"):
        iter(ranks)


def test_a_plain_dataloader_reads_and_never_begins_again_unnoticed(roots: dict[str, str]) -> None:
    expected = _flat(make_loader(roots).steps(MIXTURE), 6)
    loader = make_loader(roots)
    plain = torch.utils.data.DataLoader(loader.reader, sampler=loader.keys(MIXTURE), batch_size=None)  # type: ignore[arg-type]
    assert same_batches(expected, list(islice(iter(plain), 6)))
    with pytest.raises(ConfigError, match="taken before.*begin from zero"):
        next(iter(plain))
    with pytest.raises(ConfigError, match="does not know its place"):
        loader.state_dict()
