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

import numpy as np
from numpy.typing import NDArray

from asrkd.errors import StoreError

Columns = dict[str, bytes | NDArray]
COUNTS, CARRIED, IDS, CODES = "target_counts", "target_carried", "target_ids", "target_codes"


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
        return [COUNTS, CARRIED, *_planes(IDS, self.id_bytes), *_planes(CODES, self.code_bytes)]


def pack(counts: NDArray[np.int64], ids: NDArray[np.int64], codes: NDArray[np.int64], layout: Layout) -> Columns:
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


def unpack(
    columns: Mapping[str, bytes | NDArray], num_frames: int, layout: Layout
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Counts (T,), ids (E,) and codes (E,), by ascending id within a frame: the inverse of `pack`.

    Raises:
        StoreError: a column is missing or has another size than the others say, or they contradict each other.
    """
    counts = _bytes(columns, COUNTS, num_frames * layout.count_type.itemsize).view(layout.count_type).astype(np.int64)
    entries = int(counts.sum())
    known = entries - (int(counts[-1]) if num_frames else 0)
    bits = np.unpackbits(_bytes(columns, CARRIED, (known + 7) // 8), count=known, bitorder="little")
    frames = np.repeat(np.arange(num_frames), counts)
    source = np.flatnonzero(bits.view(bool))
    carried = np.bincount(frames[source] + 1, minlength=num_frames)
    new = counts - carried
    if (new < 0).any():
        frame = int(np.flatnonzero(new < 0)[0])
        raise StoreError(
            f"frame {frame} has {counts[frame]} entries, but {carried[frame]} are carried into it; the shard is damaged"
        )
    # Carried entries come first in their frame, in the order of their sources.
    kinds = np.zeros((num_frames, 2), dtype=bool)
    kinds[:, 1] = True
    is_new = np.repeat(kinds.reshape(-1), np.stack([carried, new], axis=1).reshape(-1))
    origin = np.arange(entries)
    origin[~is_new] = source
    steps = _joined(columns, _planes(IDS, layout.id_bytes), entries - len(source))
    ids = np.zeros(entries, dtype=np.int64)
    ids[is_new] = _sums(steps, new)
    ids = ids[_origins(origin)]
    if entries and int(ids.max()) >= layout.num_classes:
        raise StoreError(
            f"stored class id {int(ids.max())} is outside the {layout.num_classes} classes; the shard is damaged"
        )
    frames *= layout.num_classes
    keys = ids + frames
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    if (keys[1:] == keys[:-1]).any():
        raise StoreError("a class stands twice in a frame; the shard is damaged")
    codes = _joined(columns, _planes(CODES, layout.code_bytes), entries)
    return counts, (keys - frames).astype(np.int32), codes[order]


def join(rows: Sequence[Mapping[str, bytes | NDArray]], num_frames: Sequence[int], layout: Layout) -> Columns:
    """The columns of several utterances as those of one, of the frames of all: to unpack them at once.

    Nothing is carried from the last frame of an utterance, so it says so for what it has.

    Raises:
        StoreError: a column is missing or has another size than the others say.
    """
    used = [
        (row, frames) for row, frames in zip(rows, num_frames, strict=True) if frames or any(map(len, row.values()))
    ]
    frames = np.array([frames for _, frames in used], dtype=np.int64)
    parts = {name: [_column(row, name) for row, _ in used] for name in layout.columns}
    _check_sizes(parts[COUNTS], frames * layout.count_type.itemsize, COUNTS)
    whole: Columns = {name: b"".join(_bytes_of(value) for value in values) for name, values in parts.items()}
    if not len(frames):
        return whole
    counts = np.frombuffer(whole[COUNTS], layout.count_type).astype(np.int64)
    ends = np.cumsum(frames)
    if not frames.all():
        raise StoreError("an utterance without frames has targets; the shard is damaged")
    entries, last = np.add.reduceat(counts, ends - frames), counts[ends - 1]
    known = entries - last
    sizes = (known + 7) // 8
    _check_sizes(parts[CARRIED], sizes, CARRIED)
    bits = np.unpackbits(np.frombuffer(whole[CARRIED], np.uint8), bitorder="little")
    bits = bits[_in_turn(known, 8 * sizes - known)]
    goes_on = np.zeros(int(entries.sum()), dtype=np.uint8)
    goes_on[_in_turn(known, last)] = bits
    ones = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(bits, dtype=np.int64)])
    carried = np.diff(ones[np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(known)])])
    for name in layout.columns[2:]:
        _check_sizes(parts[name], entries - carried if name.startswith(IDS) else entries, name)
    whole[CARRIED] = np.packbits(goes_on[: len(goes_on) - int(last[-1])], bitorder="little")
    return whole


def _bytes_of(value: bytes | NDArray) -> bytes | memoryview:
    return value.data if isinstance(value, np.ndarray) else value


def _in_turn(yes: NDArray[np.int64], no: NDArray[np.int64]) -> NDArray[np.bool_]:
    """yes[0] times True, no[0] times False, yes[1] times True, ..."""
    kinds = np.zeros((len(yes), 2), dtype=bool)
    kinds[:, 0] = True
    return np.repeat(kinds.reshape(-1), np.stack([yes, no], axis=1).reshape(-1))


def _check_sizes(values: Sequence[bytes | NDArray], sizes: NDArray[np.int64], name: str) -> None:
    found = np.array([len(value) for value in values], dtype=np.int64)
    if (found != sizes).any():
        number = int(np.flatnonzero(found != sizes)[0])
        raise StoreError(
            f"column {name!r} has {found[number]} bytes where {sizes[number]} belong; the shard is damaged"
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


def _joined(columns: Mapping[str, bytes | NDArray], planes: list[str], size: int) -> NDArray[np.int32]:
    """Little-endian integers from their planes of bytes."""
    joined = np.zeros((size, 4), dtype=np.uint8)
    for number, plane in enumerate(planes):
        joined[:, number] = _bytes(columns, plane, size)
    return joined.view("<i4")[:, 0]


def _first_entries(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the first entry of each frame that has one."""
    return (np.cumsum(counts) - counts)[counts > 0]


def _column(columns: Mapping[str, bytes | NDArray], name: str) -> bytes | NDArray:
    if name not in columns:
        raise StoreError(
            f"column {name!r} is not among {', '.join(sorted(columns)) or 'no columns'}; the shard is of another codec"
        )
    return columns[name]


def _bytes(columns: Mapping[str, bytes | NDArray], name: str, size: int) -> NDArray[np.uint8]:
    """A column of the size that it must have."""
    value = _column(columns, name)
    if len(value) != size:
        raise StoreError(f"column {name!r} has {len(value)} bytes where {size} belong; the shard is damaged")
    return np.frombuffer(value, dtype=np.uint8)
