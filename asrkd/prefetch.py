"""One background thread that runs an iterator ahead of its consumer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

from asrkd.errors import ConfigError

Item = TypeVar("Item")
# How often a blocked side looks whether the other is still there; only matters at the end of a stream.
_POLL_SECONDS = 0.1


class Prefetch(Generic[Item]):
    """Iterates over `items` in a background thread, at most `depth` items ahead.

    An exception in the thread is raised in the consumer, in its place in the order. `close` ends the thread. A signal's exception in the consumer leaves no
    lock held, on which `close` would wait for ever: the queues are those of C, where a bounded `queue.Queue` can be interrupted between its lines.
    """

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        if depth < 1:
            raise ConfigError(f"prefetch is {depth} batches, but must be at least 1")
        self._entries: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()  # as many as entries may still come
        for _ in range(depth):
            self._room.put(None)
        self._stop = False
        self._thread = threading.Thread(target=self._run, args=(items,), name="asrkd-prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        while not self._stop:
            try:
                kind, value = self._entries.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if not self._thread.is_alive() and self._entries.empty():
                    raise RuntimeError("the prefetch thread ended without a result") from None
                continue
            self._room.put(None)
            if kind == "item":
                return value  # type: ignore[return-value]
            self.close()
            if kind == "error":
                raise value  # type: ignore[misc]
        raise StopIteration

    def close(self) -> None:
        """End the thread and wait for it; harmless when repeated."""
        self._stop = True
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self, items: Iterator[Item]) -> None:
        try:
            for item in items:
                if not self._put(("item", item)):
                    return
            self._put(("end", None))
        except BaseException as error:
            self._put(("error", error))

    def _put(self, entry: tuple[str, object]) -> bool:
        while not self._stop:
            try:
                self._room.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            self._entries.put(entry)
            return True
        return False
