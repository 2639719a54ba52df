"""Functions that run on several processes, which meet by gloo or, with a GPU each, by NCCL, for tests."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from asrkd.distributed.ranks import join, leave

ROOT = Path(__file__).parent.parent


def on_ranks(world_size: int, work: Callable[..., Any], *args: Any, device: str = "cpu") -> list[Any]:
    """What `work(rank, world_size, *args)` returns on each of `world_size` processes that can talk to each other; `device`: cpu or cuda."""
    # The processes look for the test's own module, by which `work` is named.
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(sys, "path", [str(ROOT), *sys.path]):
        mp.spawn(_run, (world_size, folder, device, work, args), nprocs=world_size)  # type: ignore[no-untyped-call]
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def _run(rank: int, world_size: int, folder: str, device: str, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    # As torchrun says it.
    os.environ |= {"OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    torch.set_num_threads(1)
    join(device, init_method=f"file://{folder}/store")
    torch.save(work(rank, world_size, *args), Path(folder) / f"{rank}.pt")
    dist.barrier()
    # Their names are told on Linux alone.
    assert _gloo_threads() > 0 or sys.platform != "linux" or device != "cpu"
    leave()
    assert _gloo_threads() == 0, "a thread that frees a tensor when Python ends would abort this process"


def _gloo_threads() -> int:
    return sum(name.read_text().strip() == "pt_gloo_runloop" for name in Path("/proc/self/task").glob("*/comm"))
