"""Many small reads at a time: a mounted disk or an object store answers many requests as fast as one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Item = TypeVar("Item")
AT_A_TIME = 16


def read_ahead(
    work: Callable[[Item], T], items: Iterable[Item], at_a_time: int = AT_A_TIME, waiting: int = 3 * AT_A_TIME
) -> Iterator[T]:
    """The result of `work` for each item, in order; however many there are, `at_a_time` are in work and at most `waiting` more are done or queued."""
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(at_a_time) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > at_a_time + waiting:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
