"""Many small reads at a time: a mounted disk or an object store answers many requests as fast as one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Item = TypeVar("Item")
AT_A_TIME = 16


def read_ahead(work: Callable[[Item], T], items: Iterable[Item]) -> Iterator[T]:
    """The result of `work` for each item, in order; a few items ahead are in work or done, however many there are."""
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > 4 * AT_A_TIME:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
