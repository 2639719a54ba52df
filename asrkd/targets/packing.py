"""How the kept classes of an utterance become bytes that zstd makes small.

Neighboring frames share classes, so a class that the frame before has too is one bit, and only new ones are spelled out.
The entries of a frame are stored in the order *carried, then new*: the carried ones in the stored order of the frame before,
the new ones by ascending class id. Columns of bytes, one value an utterance:

- `target_counts`: entries of each frame; one byte, two (little-endian) where a frame may have more than 255.
- `target_carried`: a bit for each entry of all frames but the last, in stored order: whether the next frame has its class too.
  Eight in a byte, the first in the lowest bit.
- `target_ids_0`, `target_ids_1`, ...: the low, second, ... bytes of a number for each new entry: its class id, less 1 and the
  id of the new entry before it in its frame if there is one. As many columns as V - 1 has bytes. Bytes of a kind are
  together, because a compressor sees one distribution in each column.
- `target_codes_0` (`target_codes_1`): the low (high) bytes of the codes of all entries, in stored order.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.errors import StoreError
from asrkd.targets.arrays import NUMPY, Array, Arrays
from asrkd.targets.streams import Columns

COUNTS, CARRIED, IDS, CODES = "target_counts", "target_carried", "target_ids", "target_codes"
# How many bits of a byte are set.
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


@dataclass(frozen=True)
class ByteLayout:
    """What fixes the columns: the number of classes, of entries that a frame may have, and of bytes of a code."""

    num_classes: int
    max_count: int
    code_bytes: int

    @functools.cached_property
    def id_bytes(self) -> int:
        return max(1, (int(self.num_classes - 1).bit_length() + 7) // 8)

    @functools.cached_property
    def count_type(self) -> np.dtype:
        return np.dtype("<u1" if min(self.max_count, self.num_classes) < 256 else "<u2")

    @functools.cached_property
    def columns(self) -> list[str]:
        return [COUNTS, CARRIED, *_names(IDS, self.id_bytes), *_names(CODES, self.code_bytes)]


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
    origin = NUMPY.ends(np.where(carried, places, np.arange(len(keys))), len(counts))
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
    _check_sizes(parts[COUNTS], [frames * layout.count_type.itemsize for frames in num_frames], COUNTS)
    joined = {name: np.frombuffer(bytearray().join(values), dtype=np.uint8) for name, values in parts.items()}
    splits = NUMPY.splits(joined[COUNTS].view(layout.count_type))
    ends = list(itertools.accumulate(num_frames, initial=0))
    begins_and_ends = splits[ends].tolist()
    # Entries with a bit: of all of an utterance's frames but the last.
    lasts = splits[[max(end - 1, begin) for begin, end in itertools.pairwise(ends)]].tolist()
    known = [last - begin for last, begin in zip(lasts, begins_and_ends, strict=False)]
    sizes = [(count + 7) // 8 for count in known]
    _check_sizes(parts[CARRIED], sizes, CARRIED)
    bits = joined[CARRIED]
    bit_ends = list(itertools.accumulate(sizes, initial=0))
    for count, end in zip(known, bit_ends[1:], strict=True):
        if count % 8:  # bits after the last entry say nothing
            bits[end - 1] &= 255 >> (-count % 8)
    ones = NUMPY.splits(_ONES[bits])[bit_ends].tolist()
    entries = [end - begin for begin, end in itertools.pairwise(begins_and_ends)]
    new = [count - (after - before) for count, (before, after) in zip(entries, itertools.pairwise(ones), strict=True)]
    for name in layout.columns[2:]:
        _check_sizes(parts[name], new if name.startswith(IDS) else entries, name)
    return {name: torch.from_numpy(values) for name, values in joined.items()}


def unpack_columns(
    columns: Mapping[str, Array], lengths: Array, layout: ByteLayout, arrays: Arrays
) -> tuple[Array, Array, Array]:
    """Splits (M + 1,), ids (E,) and codes (E,), by ascending id within a frame: the inverse of `pack_columns` and `join_columns`.

    Args:
        columns: joined.
        lengths: (U,) frames of each utterance.

    Raises:
        StoreError: the columns contradict each other.
    """
    width = layout.count_type.itemsize
    counts = arrays.integers([columns[COUNTS][number::width] for number in range(width)])
    splits = arrays.splits(counts)
    num_frames, total = len(counts), int(splits[-1])
    frames = arrays.repeat(arrays.arange(num_frames, counts), counts, total)
    source = _carried(columns[CARRIED], splits, lengths, arrays)
    into = frames[source] + 1
    carried = arrays.bincount(into, num_frames)
    new = counts - carried
    if num_frames and int(new.min()) < 0:
        frame = int(arrays.nonzero(new < 0)[0])
        raise StoreError(
            f"frame {frame} has {int(counts[frame])} entries, but {int(carried[frame])} are carried into it; the shard is damaged"
        )
    # Carried entries come first in their frame, in the order of their sources: entry i of those has before it, of its kind, i
    # others, and of the other kind those of the frames before (a new one: and of its own frame).
    new_splits = arrays.splits(new)
    origin, ids = arrays.arange(total, counts), arrays.arange(total, counts)
    origin[arrays.arange(len(source), counts) + new_splits[into]] = source
    steps = arrays.integers(_planes(columns, IDS, layout.id_bytes))
    places = arrays.arange(len(steps), counts) + arrays.repeat((splits - new_splits)[1:], new, len(steps))
    new_ids = _ids(steps, new, new_splits, arrays)
    if len(steps) and int(new_ids.max()) >= layout.num_classes:
        raise StoreError(
            f"stored class id {int(new_ids.max())} is outside the {layout.num_classes} classes; the shard is damaged"
        )
    ids[places] = new_ids
    longest = int(lengths.max()) if len(lengths) else 0
    ids = ids[arrays.ends(origin, longest)]
    # Frame, class and code in one number: to sort numbers is several times as fast as to sort places by them.
    frames *= layout.num_classes
    code_bits = 8 * layout.code_bytes
    keys = arrays.sort(((frames + ids) << code_bits) + arrays.integers(_planes(columns, CODES, layout.code_bytes)))
    codes = keys & ((1 << code_bits) - 1)
    keys >>= code_bits
    if bool((keys[1:] == keys[:-1]).any()):
        raise StoreError("a class occurs twice in a frame; the shard is damaged")
    keys -= frames
    return splits, keys, codes


def _carried(data: Array, splits: Array, lengths: Array, arrays: Arrays) -> Array:
    """The entries, among those of all utterances, whose class the next frame has too."""
    places = arrays.nonzero(arrays.bits(data))
    if len(lengths) == 1:
        return places
    # Entries with a bit are those of all frames but an utterance's last; each utterance begins with a byte of its own.
    ends = arrays.cumsum(lengths)
    begins = ends - lengths
    starts = splits[begins]
    sizes = (splits[(ends - 1).clip(begins)] - starts + 7) // 8
    ends_of_bits = arrays.cumsum(8 * sizes)
    ones = arrays.searchsorted(places, ends_of_bits)
    ones[1:] = ones[1:] - ones[:-1]
    return places + arrays.repeat(starts - (ends_of_bits - 8 * sizes), ones, len(places))


def _ids(steps: Array, counts: Array, splits: Array, arrays: Arrays) -> Array:
    """The inverse of `_steps`: one running sum, from which each frame takes off what the frames before have summed."""
    sums = arrays.splits(steps + 1)
    return sums[1:] - 1 - arrays.repeat(sums[splits[:-1]], counts, len(steps))


def _planes(columns: Mapping[str, Array], name: str, count: int) -> list[Array]:
    return [columns[f"{name}_{number}"] for number in range(count)]


def _check_sizes(values: Sequence[Any], sizes: Sequence[int], name: str) -> None:
    for value, size in zip(values, sizes, strict=True):
        if len(value) != size:
            raise StoreError(f"column {name!r} has {len(value)} bytes where {size} belong; the shard is damaged")


def _steps(ids: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first id of each frame, then differences less 1."""
    steps = np.diff(ids, prepend=0) - 1
    first = _first_entries(counts)
    steps[first] = ids[first]
    return steps


def _names(name: str, count: int) -> list[str]:
    return [f"{name}_{number}" for number in range(count)]


def _split(values: NDArray[np.int64], count: int) -> list[NDArray[np.uint8]]:
    """The low, second, ... bytes of values."""
    return [(values >> (8 * number) & 255).astype(np.uint8) for number in range(count)]


def _first_entries(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the first entry of each frame that has one."""
    return (np.cumsum(counts) - counts)[counts > 0]


def _column(columns: Columns, name: str) -> Any:
    if columns.get(name) is None:
        raise StoreError(
            f"column {name!r} is not among {', '.join(sorted(columns)) or 'no columns'}; the shard is of another codec"
        )
    return columns[name]
