"""How the kept classes of an utterance become bytes that zstd makes small.

Columns of bytes, one value an utterance:

- `target_counts`: entries of each frame; one byte, two (little-endian) where a frame may have more than 255.
- `target_ids_0`, `target_ids_1`, ...: the low, second, ... bytes of the id differences: for each entry its class id, less
  1 and the id before it in its frame if there is one. As many columns as V - 1 has bytes. Bytes of a kind stand together,
  because a compressor sees one distribution in each column.
- `target_codes_0` (`target_codes_1`): the low (high) bytes of the codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrkd.errors import StoreError

Columns = dict[str, bytes | NDArray]
COUNTS, IDS, CODES = "target_counts", "target_ids", "target_codes"


@dataclass(frozen=True)
class Layout:
    """What fixes the columns: the number of classes, of entries that a frame may have, and of bytes of a code."""

    num_classes: int
    max_count: int
    code_bytes: int

    @property
    def id_bytes(self) -> int:
        return max(1, (int(self.num_classes - 1).bit_length() + 7) // 8)

    @property
    def count_type(self) -> np.dtype:
        return np.dtype("<u1" if min(self.max_count, self.num_classes) < 256 else "<u2")

    @property
    def columns(self) -> list[str]:
        return [COUNTS, *_planes(IDS, self.id_bytes), *_planes(CODES, self.code_bytes)]


def pack(counts: NDArray[np.int64], ids: NDArray[np.int64], codes: NDArray[np.int64], layout: Layout) -> Columns:
    """Columns of bytes.

    Args:
        counts: (T,) entries of each frame.
        ids: (E,) class ids, ascending within a frame.
        codes: (E,) below 256 ** code_bytes.
    """
    steps = np.diff(ids, prepend=0) - 1
    first = _first_entries(counts)
    steps[first] = ids[first]
    planes = [counts.astype(layout.count_type).view(np.uint8)]
    planes += _split(steps, layout.id_bytes) + _split(codes, layout.code_bytes)
    return dict(zip(layout.columns, (plane.tobytes() for plane in planes), strict=True))


def unpack(
    columns: Mapping[str, bytes | NDArray], num_frames: int, layout: Layout
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Counts (T,), ids (E,) and codes (E,): the inverse of `pack`.

    Raises:
        StoreError: a column is missing or has another size than the others say, or an id is not below V.
    """
    counts = _bytes(columns, COUNTS, num_frames * layout.count_type.itemsize).view(layout.count_type).astype(np.int64)
    entries = int(counts.sum())
    steps = _joined(columns, _planes(IDS, layout.id_bytes), entries)
    codes = _joined(columns, _planes(CODES, layout.code_bytes), entries)
    # One running sum over all frames: the first entry of a frame goes back to 0 from the last id of the frame before.
    first = _first_entries(counts)
    sums = np.cumsum(steps + 1)
    ids = sums - 1
    if len(first):
        before = np.concatenate([np.zeros(1, dtype=sums.dtype), sums[first[1:] - 1]])
        ids -= np.repeat(before, counts[counts > 0])
    if entries and int(ids.max()) >= layout.num_classes:
        raise StoreError(
            f"stored class id {int(ids.max())} is outside the {layout.num_classes} classes; the shard is damaged"
        )
    return counts, ids.astype(np.int32), codes


def _planes(name: str, count: int) -> list[str]:
    return [f"{name}_{number}" for number in range(count)]


def _split(values: NDArray[np.int64], count: int) -> list[NDArray[np.uint8]]:
    """The low, second, ... bytes of values."""
    return [(values >> (8 * number) & 255).astype(np.uint8) for number in range(count)]


def _joined(columns: Mapping[str, bytes | NDArray], planes: list[str], size: int) -> NDArray[np.int32]:
    values = _bytes(columns, planes[0], size).astype(np.int32)
    for number, plane in enumerate(planes[1:], 1):
        values |= _bytes(columns, plane, size).astype(np.int32) << (8 * number)
    return values


def _first_entries(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the first entry of each frame that has one."""
    return (np.cumsum(counts) - counts)[counts > 0]


def _bytes(columns: Mapping[str, bytes | NDArray], name: str, size: int) -> NDArray[np.uint8]:
    """A column of the size that it must have."""
    if name not in columns:
        raise StoreError(
            f"column {name!r} is not among {', '.join(sorted(columns)) or 'no columns'}; the shard is of another codec"
        )
    value = columns[name]
    if len(value) != size:
        raise StoreError(f"column {name!r} has {len(value)} bytes where {size} belong; the shard is damaged")
    return np.frombuffer(value, dtype=np.uint8)
