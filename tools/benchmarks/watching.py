"""Memory that a process holds for itself: anonymous pages, without those of shared libraries."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def held() -> int:
    """Bytes of anonymous memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell RssAnon")


@contextmanager
def watched() -> Iterator[list[int]]:
    """The largest `held` within the block, in a list of one."""
    most, done = [held()], threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            most[0] = max(most[0], held())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()
