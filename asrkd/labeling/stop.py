"""Pre-emption: SIGTERM as an exception, so that a job ends in order and within seconds."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """The process was asked to end. Not an `Exception`: nothing on the way up should take it for an error of its own."""


@contextmanager
def terminated_by_signal() -> Iterator[None]:
    """Within the block SIGTERM raises `Terminated` in the main thread. To be entered in the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        # A second signal while the first is handled would interrupt the cleaning up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave_signals_to_the_parent() -> None:
    """For worker processes: schedulers and terminals signal the whole group, and the parent decides."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
