from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from asrkd.errors import ConfigError
from asrkd.prefetch import Prefetch


def test_items_come_in_order() -> None:
    assert list(Prefetch(iter(range(100)), 3)) == list(range(100))


@pytest.mark.timeout(30)
def test_an_exception_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("broken")

    prefetch = Prefetch(items(), 5)
    assert [next(prefetch), next(prefetch)] == [1, 2]
    with pytest.raises(KeyError, match="broken"):
        next(prefetch)
    with pytest.raises(StopIteration):
        next(prefetch)


@pytest.mark.timeout(30)
def test_close_ends_the_thread_of_an_endless_stream() -> None:
    before = threading.active_count()
    made: list[int] = []
    prefetch = Prefetch((made.append(i) or i for i in itertools.count()), 2)
    assert [next(prefetch) for _ in range(5)] == list(range(5))
    prefetch.close()
    prefetch.close()
    assert threading.active_count() == before
    assert len(made) <= 5 + 2 + 1


def test_a_depth_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="0"):
        Prefetch(iter([1]), 0)
