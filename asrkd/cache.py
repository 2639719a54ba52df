"""Two bounded caches in memory, safe to share between threads; sent to another process they arrive empty."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LruCache(Generic[Value]):
    """Keeps what was used last, up to `max_bytes`; always the latest value, however large."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[LruCache[Value]], tuple[int]]:
        return type(self), (self._max_bytes,)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def get(self, key: Hashable) -> Value | None:
        """The value of `key`, which counts as used; None if it is not there."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def drop(self, key: Hashable) -> None:
        """Forget the value of `key`, if it is there."""
        with self._lock:
            if key in self._values:
                self._bytes -= self._values.pop(key)[1]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep a value of `size` bytes, in place of an earlier one of this key."""
        with self._lock:
            self._bytes += size - self._values.pop(key, (value, 0))[1]
            self._values[key] = (value, size)
            while self._bytes > self._max_bytes and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1][1]


class FillCache(Generic[Value]):
    """Keeps what comes first, up to `max_bytes`, and then no more.

    Epochs pass over the data in ever new orders; a cache that evicts would throw out each value before its next use,
    while this one serves its share of every epoch.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._values: dict[Hashable, Value] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[FillCache[Value]], tuple[int]]:
        return type(self), (self._max_bytes,)

    def get(self, key: Hashable, make: Callable[[], Value], size: Callable[[Value], int]) -> Value:
        """The value of `key`, made at need; `size` gives its bytes."""
        value = self._values.get(key)
        if value is None:
            value = make()
            with self._lock:
                if key not in self._values and self._bytes + size(value) <= self._max_bytes:
                    self._values[key] = value
                    self._bytes += size(value)
        return value
