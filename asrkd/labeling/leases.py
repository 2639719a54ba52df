"""Leases: who works on a unit, without a coordinator and without clocks that agree.

A lease is a file that only one task can create, and that its owner writes anew every so often (a beat). Others compare what
they read with what they read before, by their own clock: an owner whose lease has not changed for `seconds` is taken for dead.
A lease saves work that two tasks would do, no more: a shard is committed only where there is none, and its bytes are the same
whoever makes it, so an owner that was only stalled does no harm when it wakes.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asrkd.errors import StoreError
from asrkd.store.files import create, exists, read_bytes, remove, write_atomic


class Leases:
    """The leases of one task.

    Args:
        root: of the store.
        seconds: without a beat after which an owner counts as dead.
        clock: seconds that go forward; for tests.
    """

    def __init__(self, root: str, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._root, self._clock = root, clock
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._beats = 0
        self._seen: dict[int, tuple[bytes, float]] = {}

    def claim(self, unit: int) -> bool:
        """Whether the unit is this task's now: nobody had a lease on it, or its owner is dead."""
        found = self._read(unit)
        if found is not None:
            before = self._seen.get(unit)
            if before is None or before[0] != found:
                self._seen[unit] = (found, self._clock())
                return False
            if self._clock() - before[1] < self.seconds:
                return False
            self._remove(unit)
        self._seen.pop(unit, None)
        return create(self._root, lease_name(unit), self._content())

    def holds(self, unit: int) -> bool:
        """Whether the lease is still this task's."""
        found = self._read(unit)
        return found is not None and json.loads(found)["owner"] == self._owner

    @contextmanager
    def keep(self, unit: int) -> Iterator[None]:
        """Within the block the lease is renewed in a thread; then it is given up."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self.seconds / 4):
                try:
                    if not self.holds(unit):
                        return
                    write_atomic(self._root, lease_name(unit), self._content())
                except StoreError:
                    continue  # the storage may be back at the next beat

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            if self.holds(unit):
                self._remove(unit)

    def _content(self) -> bytes:
        self._beats += 1
        return json.dumps({"owner": self._owner, "beat": self._beats}).encode()

    def _read(self, unit: int) -> bytes | None:
        try:
            return read_bytes(self._root, lease_name(unit))
        except StoreError:
            if exists(self._root, lease_name(unit)):
                raise
            return None  # gone between two looks

    def _remove(self, unit: int) -> None:
        try:
            remove(self._root, lease_name(unit))
        except StoreError:
            if exists(self._root, lease_name(unit)):
                raise


def lease_name(unit: int) -> str:
    """The file of a unit's lease."""
    return f"leases/part-{unit:05d}.json"
