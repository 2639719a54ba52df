from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

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


class Interrupted(BaseException):
    pass


@pytest.mark.timeout(60)
def test_an_interrupt_anywhere_in_the_consumer_leaves_no_lock_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal's handler may raise between any two instructions, also those of the queue."""
    monkeypatch.setattr("asrkd.prefetch._POLL_SECONDS", 0.01)

    def interrupted_after(count: int) -> bool:
        prefetch = Prefetch(itertools.count(), 2)

        def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal count
            frame.f_trace_opcodes = True
            count -= event == "opcode"
            if count < 0:
                raise Interrupted
            return trace

        sys.settrace(trace)
        try:
            next(prefetch)
        except Interrupted:
            return True
        finally:
            sys.settrace(None)
            closing = threading.Thread(target=prefetch.close, daemon=True)
            closing.start()
            closing.join(5.0)
            assert not closing.is_alive()
        return False

    instructions = 0
    while interrupted_after(instructions):
        instructions += 1
    assert instructions > 10
