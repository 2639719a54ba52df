from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.errors import StoreError
from asrkd.targets.arrays import NUMPY, TORCH
from asrkd.targets.packing import ByteLayout, join_columns, pack_columns, unpack_columns
from asrkd.targets.streams import Columns

Frames = list[list[tuple[int, int]]]


@st.composite
def utterances(draw: st.DrawFn) -> tuple[Frames, ByteLayout]:
    """Frames of (id, code) that share classes with their neighbors, with empty frames among them."""
    classes = draw(st.sampled_from([2, 5, 256, 257, 65_537]))
    code_bytes = draw(st.sampled_from([1, 2]))
    pool = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=8, unique=True))
    codes = st.integers(0, 256**code_bytes - 1)
    frames = draw(st.lists(st.lists(st.sampled_from(pool), max_size=6, unique=True), max_size=8))
    largest = max((len(frame) for frame in frames), default=0)
    layout = ByteLayout(classes, draw(st.sampled_from([max(largest, 1), 300])), code_bytes)
    return [[(i, draw(codes)) for i in sorted(frame)] for frame in frames], layout


def arrays(frames: Frames) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    flat = [entry for frame in frames for entry in frame]
    ids, codes = (np.array([entry[part] for entry in flat], dtype=np.int64) for part in (0, 1))
    return np.array([len(frame) for frame in frames], dtype=np.int64), ids, codes


def read_plainly(columns: dict, num_frames: int, layout: ByteLayout) -> Frames:
    """A reader written from the module's description alone."""

    def joined(name: str, count: int, index: int) -> int:
        return sum(columns[f"{name}_{n}"][index] << (8 * n) for n in range(count))

    width = layout.count_type.itemsize
    counts = [
        int.from_bytes(columns["target_counts"][width * t : width * (t + 1)], "little") for t in range(num_frames)
    ]
    frames, before, bit, new, entry = [], [], 0, 0, 0
    for count in counts:
        carried = []
        for class_id in before:
            if columns["target_carried"][bit // 8] >> (bit % 8) & 1:
                carried.append(class_id)
            bit += 1
        fresh: list[int] = []
        for _ in range(count - len(carried)):
            step = joined("target_ids", layout.id_bytes, new)
            fresh.append(step + fresh[-1] + 1 if fresh else step)
            new += 1
        before = carried + fresh
        frames.append(sorted((i, joined("target_codes", layout.code_bytes, entry + n)) for n, i in enumerate(before)))
        entry += count
    return frames


def unpacked(columns: Columns, num_frames: int, layout: ByteLayout) -> tuple[torch.Tensor, ...]:
    joined, lengths = join_columns([columns], [num_frames], layout), torch.tensor([num_frames])
    splits, ids, codes = unpack_columns(joined, lengths, layout, TORCH)
    arrays = {name: column.numpy() for name, column in joined.items()}
    for one, other in zip(unpack_columns(arrays, lengths.numpy(), layout, NUMPY), (splits, ids, codes), strict=True):
        np.testing.assert_array_equal(one, other)
    return splits.diff(), ids, codes


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(utterances())
def test_round_trip_and_a_plain_reader(given_frames: tuple[Frames, ByteLayout]) -> None:
    frames, layout = given_frames
    counts, ids, codes = arrays(frames)
    columns = pack_columns(counts, ids, codes, layout)
    assert list(columns) == layout.columns and all(isinstance(column, bytes) for column in columns.values())
    for found, expected in zip(unpacked(columns, len(frames), layout), (counts, ids, codes), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert read_plainly(columns, len(frames), layout) == frames


def test_a_class_that_stays_costs_a_bit() -> None:
    layout = ByteLayout(3000, 20, 1)
    ids = np.tile(np.arange(0, 2000, 100), 50)
    columns = pack_columns(np.full(50, 20), ids, np.zeros(1000, dtype=np.int64), layout)
    assert len(columns["target_ids_0"]) == len(columns["target_ids_1"]) == 20
    assert len(columns["target_carried"]) == -(-49 * 20 // 8)


def test_contradictions_are_refused() -> None:
    layout = ByteLayout(3000, 20, 1)
    columns = pack_columns(np.array([2, 2]), np.array([5, 9, 5, 7]), np.arange(4), layout)
    with pytest.raises(StoreError, match="frame 1 has 1 entries, but 2 are carried into it"):
        others = {"target_ids_0": bytes(1), "target_ids_1": bytes(1), "target_codes_0": bytes(3)}
        unpacked({"target_counts": bytes([2, 1]), "target_carried": b"\x03", **others}, 2, layout)
    with pytest.raises(StoreError, match="stored class id 65289 is outside the 3000 classes"):
        unpacked(columns | {"target_ids_1": bytes([255, 0, 0])}, 2, layout)
    # 5, 9 | 5 again as a new class next to the carried one.
    with pytest.raises(StoreError, match="a class occurs twice in a frame"):
        unpacked(columns | {"target_ids_0": bytes([5, 3, 5])}, 2, layout)
    with pytest.raises(StoreError, match="'target_carried' has 0 bytes where 1 belong"):
        unpacked(columns | {"target_carried": b""}, 2, layout)
    with pytest.raises(StoreError, match="'target_codes_0' is not among .*another codec"):
        unpacked({name: column for name, column in columns.items() if name != "target_codes_0"}, 2, layout)
