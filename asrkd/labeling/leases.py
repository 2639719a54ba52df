"""Leases: who works on a unit, without a coordinator and without clocks that agree.

A lease is a file that only one task can create, and that its owner rewrites every so often (a beat). Others compare what
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
from asrkd.store.files import Files


class Leases:
    """The leases of one task.

    Args:
        files: of the store.
        seconds: without a beat after which an owner counts as dead.
        clock: seconds that go forward; for tests.
    """

    def __init__(self, files: Files, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._files, self._clock = files, clock
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._beats = 0
        self._seen: dict[int, tuple[bytes, float]] = {}
        self._held: set[int] = set()
        self._since: dict[int, float] = {}
        self._lock = threading.Lock()

    def claim(self, unit: int) -> bool:
        """Whether the unit is this task's now: nobody had a lease on it, or its owner is dead."""
        found = self._files.read_or_none(lease_name(unit))
        if found is not None:
            before = self._seen.get(unit)
            if before is None or before[0] != found:
                self._seen[unit] = (found, self._clock())
                return False
            if self._clock() - before[1] < self.seconds:
                return False
            self._files.remove(lease_name(unit))
        self._seen.pop(unit, None)
        self._since[unit] = self._clock()
        if not self._files.create(lease_name(unit), self._content(unit)):
            return False
        with self._lock:
            self._held.add(unit)
        return True

    def holds(self, unit: int) -> bool:
        """Whether the lease is still this task's."""
        found = self._files.read_or_none(lease_name(unit))
        return found is not None and json.loads(found)["owner"] == self._owner

    def release(self, unit: int) -> None:
        """Give a unit up, if it is this task's."""
        with self._lock:
            self._held.discard(unit)
            if self.holds(unit):
                self._files.remove(lease_name(unit))

    def release_all(self) -> None:
        """Give up every unit."""
        for unit in sorted(self._held):
            self.release(unit)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Within the block the leases are renewed by a thread; then those that are left are given up."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self.seconds / 4):
                for unit in sorted(self._held):
                    with self._lock:
                        if unit in self._held:
                            self._renew(unit)

        thread = threading.Thread(target=beat, name="asrkd-leases", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release_all()

    def _renew(self, unit: int) -> None:
        try:
            if self.holds(unit):
                self._files.write(lease_name(unit), self._content(unit))
            else:
                self._held.discard(unit)  # another task took it over
        except StoreError:
            pass  # the storage may be back at the next beat

    def _content(self, unit: int) -> bytes:
        self._beats += 1
        seconds = round(self._clock() - self._since.get(unit, self._clock()), 1)
        return json.dumps({"owner": self._owner, "beat": self._beats, "seconds": seconds}).encode()


def lease_name(unit: int) -> str:
    """The file of a unit's lease."""
    return f"leases/part-{unit:05d}.json"
