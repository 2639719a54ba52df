"""Work on cut after cut by several processes, in order, in memory that does not grow with their number."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import TypeVar

import torch

from asrkd import processes
from asrkd.corpus.cut_json import CutJson
from asrkd.errors import AsrkdError

Result = TypeVar("Result")
# Cuts for each process that are begun before the first of all is done: while that is an hour long, the others work on.
_AHEAD = 16


def each_in_order(work: Callable[[CutJson], Result], cuts: Iterable[CutJson], workers: int) -> Iterator[Result]:
    """What `work` makes of each cut, in order.

    Args:
        work: that can be pickled.
        workers: processes; 1 works in this one.

    Raises:
        AsrkdError: a process died; whatever `work` raises.
    """
    if workers == 1:
        yield from map(work, cuts)
        return
    with processes.starting(), ExitStack() as stack:
        pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
        )
        stack.callback(pool.shutdown, cancel_futures=True)
        running: deque[Future[Result]] = deque()
        try:
            for cut in cuts:
                running.append(pool.submit(work, cut))
                if len(running) >= _AHEAD * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool:
            raise AsrkdError(
                "a process that read audio ended without a word, as when the system is short of memory; run again with fewer --workers"
            ) from None
