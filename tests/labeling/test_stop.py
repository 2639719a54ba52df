"""A job that is asked to end ends, whatever Python was doing at that moment."""

from __future__ import annotations

import ctypes
import gc
import io
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import torch

from asrkd.labeling.stop import Terminated, terminated_by_signal

SIGNALS = {signal.SIGTERM: Terminated, signal.SIGINT: KeyboardInterrupt}


@pytest.fixture(autouse=True)
def _interrupts() -> Iterator[None]:
    # A shell's background jobs, which tests may be among, ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Deleted:
    def __init__(self, then: Callable[[], None]) -> None:
        self.then = then

    def __del__(self) -> None:
        self.then()


class Referred:
    pass


def in_del(then: Callable[[], None]) -> None:
    Deleted(then)


def in_a_weak_reference(then: Callable[[], None]) -> None:
    referred = Referred()
    reference = weakref.ref(referred, lambda _: then())
    del referred
    assert reference() is None


def in_a_cycle(then: Callable[[], None]) -> None:
    one = Deleted(then)
    one.itself = one  # type: ignore[attr-defined]
    del one
    gc.collect()


def in_a_library(then: Callable[[], None]) -> None:
    ctypes.CFUNCTYPE(None)(then)()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
@pytest.mark.parametrize("inside", [in_del, in_a_weak_reference, in_a_cycle, in_a_library])
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_where_python_drops_exceptions_is_raised_after_that(
    inside: Callable[[Callable[[], None]], None], number: signal.Signals, times: int
) -> None:
    asked = []

    def ask() -> None:
        asked.append(number)
        signal.raise_signal(number)

    before = sys.unraisablehook, signal.getsignal(signal.SIGTERM)
    with pytest.raises(SIGNALS[number]), terminated_by_signal():
        for _ in range(times):
            inside(ask)
        for _ in range(1000):
            time.sleep(0.01)
    # From the second on, the first may have been raised already.
    assert 1 <= len(asked) <= times
    assert (sys.unraisablehook, signal.getsignal(signal.SIGTERM)) == before


def test_other_errors_there_are_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_value))

    def fail() -> None:
        raise ValueError("of its own")

    with terminated_by_signal():
        in_del(fail)
    assert [str(error) for error in told] == ["of its own"]


def test_a_second_signal_does_not_interrupt_the_cleaning_up() -> None:
    cleaned = []
    with pytest.raises(Terminated), terminated_by_signal():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)
    assert cleaned


def swallow(then: Callable[[], None]) -> None:
    with suppress(BaseException):
        then()


def in_a_lookup(then: Callable[[], None]) -> None:
    class Named:
        def __getattr__(self, name: str) -> None:
            then()

    ctypes.pythonapi.PyObject_HasAttrString(ctypes.py_object(Named()), b"any")


def fail_over_it(then: Callable[[], None]) -> None:
    try:
        then()
    finally:
        raise RuntimeError("unexpected pos 223808")


def in_a_checkpoint(then: Callable[[], None]) -> None:
    class Interrupted(io.BytesIO):
        writes = 0

        def write(self, data: Any) -> int:
            self.writes += 1
            if self.writes == 2:
                then()
            return super().write(data)

    torch.save({"weights": torch.zeros(1000)}, Interrupted())


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
@pytest.mark.parametrize("inside", [fail_over_it, in_a_checkpoint])
def test_an_error_that_follows_a_signal_does_not_hide_it(
    inside: Callable[[Callable[[], None]], None], number: signal.Signals
) -> None:
    with pytest.raises(SIGNALS[number]), terminated_by_signal():
        inside(lambda: signal.raise_signal(number))


@pytest.mark.parametrize("inside", [swallow, in_a_lookup])
def test_sigterm_that_is_swallowed_is_raised_again(inside: Callable[[Callable[[], None]], None]) -> None:
    with pytest.raises(Terminated), terminated_by_signal():
        inside(lambda: signal.raise_signal(signal.SIGTERM))
        for _ in range(1000):
            time.sleep(0.01)
    with pytest.raises(Terminated), terminated_by_signal():
        inside(lambda: signal.raise_signal(signal.SIGTERM))


def test_cleaning_up_is_not_interrupted_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asrkd.labeling.stop._AGAIN_SECONDS", (0.01, 0.01))
    cleaned = []

    @contextmanager
    def cleaning() -> Iterator[None]:
        try:
            yield
        finally:
            with suppress(KeyError):
                time.sleep(0.2)
                raise KeyError
            time.sleep(0.2)
            cleaned.append(True)

    with pytest.raises(Terminated), terminated_by_signal():
        try:
            with cleaning():
                signal.raise_signal(signal.SIGTERM)
        finally:
            time.sleep(0.2)
            cleaned.append(True)
    assert cleaned == [True, True]


def test_an_alarm_of_someone_else_comes_after_the_block() -> None:
    rang = []
    before = signal.signal(signal.SIGALRM, lambda *_: rang.append(True))
    timer = signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(Terminated), terminated_by_signal():
            signal.raise_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert rang
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def test_a_block_may_take_ctrl_c_and_its_later_errors_are_told() -> None:
    with terminated_by_signal():
        swallow(lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(RuntimeError, match="223808"), terminated_by_signal():
        swallow(lambda: signal.raise_signal(signal.SIGINT))
        fail_over_it(lambda: None)


def test_errors_without_a_signal_are_told() -> None:
    with pytest.raises(RuntimeError, match="223808"), terminated_by_signal():
        fail_over_it(lambda: None)
