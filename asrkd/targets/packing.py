"""How the kept classes of an utterance become bytes that zstd makes small.

Neighboring frames share classes, so a class that the frame before has too is one bit, and only new ones are spelled out.
The entries of a frame are stored in the order *carried, then new*: the carried ones in the stored order of the frame before,
the new ones by ascending class id. Columns of bytes, one value an utterance:

- `target_counts`: entries of each frame; one byte, two (little-endian) where a frame may have more than 255.
- `target_carried`: a bit for each entry of all frames but the last, in stored order: whether the next frame has its class too.
  Eight in a byte, the first in the lowest bit.
- `target_ids_0`, `target_ids_1`, ...: the low, second, ... bytes of a number for each new entry: its class id, less 1 and the
  id of the new entry before it in its frame if there is one. As many columns as V - 1 has bytes. Bytes of a kind stand
  together, because a compressor sees one distribution in each column.
- `target_codes_0` (`target_codes_1`): the low (high) bytes of the codes of all entries, in stored order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.errors import StoreError

# Of one utterance, by name; as they are written, or as a table of rows has them.
Columns = Mapping[str, Any]
COUNTS, CARRIED, IDS, CODES = "target_counts", "target_carried", "target_ids", "target_codes"
# How many bits of a byte are set.
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


@dataclass(frozen=True)
class ByteLayout:
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
        return [COUNTS, CARRIED, *_planes(IDS, self.id_bytes), *_planes(CODES, self.code_bytes)]


def pack_columns(
    counts: NDArray[np.int64], ids: NDArray[np.int64], codes: NDArray[np.int64], layout: ByteLayout
) -> dict[str, bytes]:
    """Columns of bytes.

    Args:
        counts: (T,) entries of each frame.
        ids: (E,) class ids, ascending within a frame.
        codes: (E,) below 256 ** code_bytes.
    """
    frames = np.repeat(np.arange(len(counts)), counts)
    keys = frames * layout.num_classes + ids
    # Where the frame before has the class, by its place in the ascending keys.
    places = np.searchsorted(keys, keys - layout.num_classes)
    carried = (places < len(keys)) & (keys[np.minimum(places, len(keys) - 1)] == keys - layout.num_classes)
    origin = _origins(np.where(carried, places, np.arange(len(keys))))
    # "Carried in the order of the frame before, then new" is: by the frame in which the class came up, then by class.
    order = np.lexsort((ids, frames[origin], frames))
    goes_on = np.zeros(len(keys), dtype=bool)
    goes_on[places[carried]] = True
    last = int(counts[-1]) if len(counts) else 0
    new = order[~carried[order]]
    steps = _steps(ids[new], np.bincount(frames[new], minlength=len(counts)))
    planes = [counts.astype(layout.count_type), np.packbits(goes_on[order][: len(keys) - last], bitorder="little")]
    planes += _split(steps, layout.id_bytes) + _split(codes[order], layout.code_bytes)
    return dict(zip(layout.columns, (plane.tobytes() for plane in planes), strict=True))


def join_columns(rows: Sequence[Columns], num_frames: Sequence[int], layout: ByteLayout) -> dict[str, Tensor]:
    """The columns of utterances, one after another: (bytes,) uint8 each.

    Sizes are checked here, so that a damaged row cannot shift those behind it.

    Raises:
        StoreError: a column is missing or has another size than the others say.
    """
    parts = {name: [_column(row, name) for row in rows] for name in layout.columns}
    frames = np.asarray(num_frames, dtype=np.int64)
    _check_sizes(parts[COUNTS], frames * layout.count_type.itemsize, COUNTS)
    joined = {name: np.frombuffer(bytearray().join(values), dtype=np.uint8) for name, values in parts.items()}
    entries, known = _sizes(joined[COUNTS].view(layout.count_type), frames)
    sizes = (known + 7) // 8
    _check_sizes(parts[CARRIED], sizes, CARRIED)
    # Bits behind the last entry say nothing.
    bits = joined[CARRIED]
    ends = np.cumsum(sizes)
    used = sizes > 0
    bits[ends[used] - 1] &= (255 >> (-known[used] % 8)).astype(np.uint8)
    ones = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(_ONES[bits], dtype=np.int64)])
    carried = ones[ends] - ones[ends - sizes]
    for name in layout.columns[2:]:
        _check_sizes(parts[name], entries - carried if name.startswith(IDS) else entries, name)
    return {name: torch.from_numpy(values) for name, values in joined.items()}


def unpack_columns(columns: Mapping[str, Tensor], lengths: Tensor, layout: ByteLayout) -> tuple[Tensor, Tensor, Tensor]:
    """Counts (M,), ids (E,), int64, and codes (E,), by ascending id within a frame: the inverse of `pack_columns` and `join_columns`, on a CPU.

    Args:
        columns: joined.
        lengths: (U,) frames of each utterance.

    Raises:
        StoreError: the columns contradict each other.
    """
    arrays = {name: column.numpy() for name, column in columns.items()}
    stored = arrays[COUNTS].view(layout.count_type)
    counts, num_frames = stored.astype(np.int64), len(stored)
    total = int(counts.sum())
    frames = np.repeat(np.arange(num_frames), counts)
    source = _carried(arrays[CARRIED], *_sizes(stored, lengths.numpy()))
    carried = np.bincount(frames[source] + 1, minlength=num_frames)[:num_frames]
    new = counts - carried
    if (new < 0).any():
        frame = int(np.flatnonzero(new < 0)[0])
        raise StoreError(
            f"frame {frame} has {counts[frame]} entries, but {carried[frame]} are carried into it; the shard is damaged"
        )
    # Carried entries come first in their frame, in the order of their sources.
    is_new = _in_turn(carried, new)
    origin = np.arange(total)
    origin[~is_new] = source
    steps = _joined(arrays, _planes(IDS, layout.id_bytes))
    ids = np.zeros(total, dtype=np.int64)
    ids[is_new] = _sums(steps, new)
    ids = ids[_origins(origin)]
    if total and int(ids.max()) >= layout.num_classes:
        raise StoreError(
            f"stored class id {int(ids.max())} is outside the {layout.num_classes} classes; the shard is damaged"
        )
    frames *= layout.num_classes
    keys = ids + frames
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    if (keys[1:] == keys[:-1]).any():
        raise StoreError("a class stands twice in a frame; the shard is damaged")
    codes = _joined(arrays, _planes(CODES, layout.code_bytes))[order]
    return torch.from_numpy(counts), torch.from_numpy(keys - frames), torch.from_numpy(codes)


def _sizes(counts: NDArray[Any], lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(U,) entries of each utterance, and those with a bit: of all its frames but the last."""
    ends = np.cumsum(lengths)
    cumulated = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
    starts = cumulated[ends - lengths]
    return cumulated[ends] - starts, cumulated[np.maximum(ends - 1, ends - lengths)] - starts


def _carried(data: NDArray[np.uint8], entries: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """The entries, among those of all utterances, whose class the next frame has too."""
    places = np.flatnonzero(np.unpackbits(data, bitorder="little").view(bool))
    # Each utterance begins with a byte of its own.
    bits = 8 * np.cumsum((known + 7) // 8)
    found = np.searchsorted(places, np.concatenate([np.zeros(1, dtype=np.int64), bits]))
    counts = found[1:] - found[:-1]
    starts = np.cumsum(entries) - entries - (bits - 8 * ((known + 7) // 8))
    source: NDArray[np.int64] = places + np.repeat(starts, counts)
    return source


def _in_turn(no: NDArray[np.int64], yes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """no[0] times False, yes[0] times True, no[1] times False, ..."""
    kinds, counts = np.zeros((len(no), 2), dtype=bool), np.empty((len(no), 2), dtype=np.int64)
    kinds[:, 1] = True
    counts[:, 0], counts[:, 1] = no, yes
    return np.repeat(kinds.reshape(-1), counts.reshape(-1))


def _check_sizes(values: Sequence[Any], sizes: NDArray[np.int64], name: str) -> None:
    found, belong = [len(value) for value in values], sizes.tolist()
    if found != belong:
        number = next(number for number, size in enumerate(found) if size != belong[number])
        raise StoreError(
            f"column {name!r} has {found[number]} bytes where {belong[number]} belong; the shard is damaged"
        )


def _origins(source: NDArray[np.int64]) -> NDArray[np.int64]:
    """Follow each entry's source to the end; an end is its own source. Doubles the distance in each round."""
    while True:
        further = source[source]
        if np.array_equal(further, source):
            return source
        source = further


def _steps(ids: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first id of each frame, then differences less 1."""
    steps = np.diff(ids, prepend=0) - 1
    first = _first_entries(counts)
    steps[first] = ids[first]
    return steps


def _sums(steps: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The inverse of `_steps`: one running sum, from which each frame takes off what the frames before have summed."""
    sums = np.cumsum(steps, dtype=np.int64)
    sums += np.arange(len(steps))
    before = np.concatenate([np.zeros(1, dtype=np.int64), sums + 1])[np.cumsum(counts) - counts]
    return sums - np.repeat(before, counts)


def _planes(name: str, count: int) -> list[str]:
    return [f"{name}_{number}" for number in range(count)]


def _split(values: NDArray[np.int64], count: int) -> list[NDArray[np.uint8]]:
    """The low, second, ... bytes of values."""
    return [(values >> (8 * number) & 255).astype(np.uint8) for number in range(count)]


def _joined(columns: Mapping[str, NDArray[np.uint8]], planes: list[str]) -> NDArray[np.int32]:
    """Little-endian integers from their planes of bytes."""
    joined = np.zeros((len(columns[planes[0]]), 4), dtype=np.uint8)
    for number, plane in enumerate(planes):
        joined[:, number] = columns[plane]
    return joined.view("<i4")[:, 0]


def _first_entries(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the first entry of each frame that has one."""
    return (np.cumsum(counts) - counts)[counts > 0]


def _column(columns: Columns, name: str) -> Any:
    if columns.get(name) is None:
        raise StoreError(
            f"column {name!r} is not among {', '.join(sorted(columns)) or 'no columns'}; the shard is of another codec"
        )
    return columns[name]
