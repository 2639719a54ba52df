"""Ids seen so far, by 12 bytes each: a set of Python strings would not fit in memory for the largest corpora."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asrkd.store.repeated_ids import id_hashes

# Runs above this, and above an eighth of all, are not merged any more: a merge holds both and their union.
_LARGEST_RUN = 1 << 20


class SeenIds:
    """96-bit hashes in sorted runs; neighbors of like size are merged, as in a log-structured merge tree."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.bytes_]] = []
        self._total = 0

    def contains(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) whether each id has been added."""
        return self._found(id_hashes(ids))

    def add(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Add ids; (n,) whether each was there before, or is before it among them."""
        hashes = id_hashes(ids)
        repeated = self._found(hashes)
        if not len(ids):
            return repeated
        order = np.argsort(hashes, kind="stable")
        added = hashes[order]
        repeated[order[1:]] |= added[1:] == added[:-1]
        self._runs.append(added)
        self._total += len(ids)
        largest = max(_LARGEST_RUN, self._total // 8)
        while len(self._runs) > 1 and len(self._runs[-2]) < min(2 * len(self._runs[-1]), largest):
            last = self._runs.pop()
            both = np.concatenate([self._runs[-1], last])
            # A stable sort of two sorted runs only merges them; in place, because a copy would be the peak of memory.
            both.sort(kind="stable")
            self._runs[-1] = both
        return repeated

    def _found(self, hashes: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        found = np.zeros(len(hashes), dtype=bool)
        for run in self._runs:
            places = np.searchsorted(run, hashes)
            found |= run[np.minimum(places, len(run) - 1)] == hashes
        return found
