"""Ids that come more than once in a store of any size, by hashes that are sorted on disk."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asrkd.errors import StoreError
from asrkd.files import reason

HASH_BYTES = 12
# Hashes that are sorted at a time: 12 MB.
_RUN = 1 << 20
# Hashes are spread evenly, so that equal ranges of their first bytes hold about as many of each run.
_RANGES = 4096


def id_hashes(ids: Sequence[str]) -> NDArray[np.bytes_]:
    """(n,) 96-bit hashes: two different ids of 10^9 have the same with a probability of 10^-11."""
    digests = b"".join(hashlib.blake2b(key.encode(), digest_size=HASH_BYTES).digest() for key in ids)
    return np.frombuffer(digests, dtype=f"S{HASH_BYTES}")


class RepeatedIds:
    """Takes ids, then tells which were there more than once. On disk: 12 bytes an id, in a temporary file without a name."""

    def __init__(self, *, run: int = _RUN) -> None:
        self._run = run
        self._new: list[NDArray[np.bytes_]] = []
        self._num_new = 0
        self._file = tempfile.TemporaryFile(prefix="asrkd-ids-")
        # (ranges + 1,) for each run, where the ranges begin in it.
        self._begins: list[NDArray[np.int64]] = []

    def __enter__(self) -> RepeatedIds:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, ids: Sequence[str]) -> None:
        """Take ids.

        Raises:
            StoreError: the disk of temporary files is full.
        """
        self._new.append(id_hashes(ids))
        self._num_new += len(ids)
        if self._num_new >= self._run:
            self._sort()

    def hashes(self) -> NDArray[np.bytes_]:
        """(n,) the sorted hashes (`id_hashes`) of the ids that were there more than once, once each."""
        self._sort()
        repeated: list[NDArray[np.bytes_]] = []
        begin = 0
        while begin < _RANGES and self._begins:
            # As many ranges as make about one run.
            end = begin + 1
            while end < _RANGES and sum(int(at[end + 1] - at[begin]) for at in self._begins) <= self._run:
                end += 1
            parts = [self._read(number, begin, end) for number in range(len(self._begins))]
            merged = np.sort(np.concatenate(parts))
            repeated.append(np.unique(merged[1:][merged[1:] == merged[:-1]]))
            begin = end
        return np.concatenate(repeated) if repeated else id_hashes([])

    def _sort(self) -> None:
        """Write a run of the new hashes."""
        if not self._num_new:
            return
        run = np.sort(np.concatenate(self._new))
        self._new, self._num_new = [], 0
        firsts = np.array([(n * 16).to_bytes(2, "big") for n in range(_RANGES)], dtype=f"S{HASH_BYTES}")
        self._begins.append(np.r_[np.searchsorted(run, firsts), len(run)])
        try:
            self._file.seek(0, 2)
            self._file.write(run.tobytes())
        except OSError as error:
            raise StoreError(
                f"the ids of a store ({HASH_BYTES} bytes each) cannot be written to {tempfile.gettempdir()!r}, where they are sorted: "
                f"{reason(error)}. Make room, or set TMPDIR to a larger disk"
            ) from None

    def _read(self, number: int, begin: int, end: int) -> NDArray[np.bytes_]:
        """The hashes of some ranges of a run."""
        before = sum(int(at[-1]) for at in self._begins[:number])
        first, last = int(self._begins[number][begin]), int(self._begins[number][end])
        self._file.seek(HASH_BYTES * (before + first))
        return np.frombuffer(self._file.read(HASH_BYTES * (last - first)), dtype=f"S{HASH_BYTES}")
