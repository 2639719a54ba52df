"""Unpacking many utterances at a time, as on a device and as on a CPU, against unpacking one at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from target_helpers import joined, pack, unpack

from asrkd.errors import StoreError
from asrkd.targets import layouts
from asrkd.targets.arrays import TORCH
from asrkd.targets.codecs import Dense, Hybrid, Nucleus, PosteriorCodec, Sampled, TopK
from asrkd.targets.packed import PackedTargets
from asrkd.targets.random import frame_keys
from asrkd.targets.select import Entries
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import Targets

CPU = torch.device("cpu")
CODECS = (
    TopK(3),
    TopK(20),
    TopK(400),
    Nucleus(0.9, 8),
    Nucleus(1.0, 300),
    Sampled(5),
    Sampled(256),
    Hybrid(0, 22),
    Hybrid(4, 8),
)


def _speech(frames: int, classes: int, seed: int) -> torch.Tensor:
    """Posteriors whose neighbors share classes; some frames are one-hot, some uniform."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(frames, classes, generator=generator).cumsum(0) * 2 if frames else torch.zeros(0, classes)
    for t in range(0, frames, 7):
        logits[t] = -torch.inf if t % 2 else 0.0
        logits[t, seed % classes] = 0.0
    return logits.log_softmax(1)


def as_on_a_device(packed: PackedTargets) -> Targets:
    """Unpacked with torch alone, which runs on a CPU too."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(layouts, "arrays_for", lambda _: TORCH)
        return packed.unpack()


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    classes=st.sampled_from([2, 3, 17, 256, 257, 1000, 70_000]),
    codec=st.sampled_from(CODECS),
    seed=st.integers(0, 1000),
)
def test_a_batch_is_its_utterances_one_after_another(
    lengths: list[int], classes: int, codec: PosteriorCodec, seed: int
) -> None:
    rows, alone = [], []
    for number, frames in enumerate(lengths):
        log_probs = _speech(frames, classes, seed + number)
        rows.append(pack(codec, codec.encode(log_probs, frame_keys(f"u{number}", "t", frames, CPU))))
        alone.append(unpack(codec, rows[-1:], [frames], classes))
    expected = SparseTargets.cat(alone)
    packed = joined(codec, rows, lengths, classes)
    for batch in (packed.unpack(), as_on_a_device(packed)):
        assert batch.lengths.tolist() == lengths and batch.num_classes == classes
        for name in ("row_splits", "ids", "log_probs", "missing"):
            found, truth = getattr(batch, name), getattr(expected, name)
            assert found.dtype == truth.dtype and torch.equal(found, truth), name


def test_damage_is_refused_by_name() -> None:
    codec = TopK(3)
    rows = [dict(pack(codec, codec.encode(_speech(9, 50, seed)))) for seed in range(2)]
    for name in rows[0]:
        broken = [rows[0], rows[1] | {name: rows[1][name] + b"\0"}]
        with pytest.raises(StoreError, match=f"column {name!r} has .* bytes where .* belong"):
            joined(codec, broken, [9, 9], 50)
        for lacking in ({key: value for key, value in rows[1].items() if key != name}, rows[1] | {name: None}):
            with pytest.raises(StoreError, match=f"column {name!r} is not among"):
                joined(codec, [rows[0], lacking], [9, 9], 50)
    with pytest.raises(StoreError, match="column 'target_counts' has 9 bytes where 8 belong"):
        joined(codec, rows, [9, 8], 50)
    with pytest.raises(StoreError, match="column 'target_counts' has 9 bytes where 0 belong"):
        joined(codec, rows, [9, 0], 50)


def test_contradictions_are_refused() -> None:
    codec = TopK(2)
    good = pack(codec, Entries(torch.tensor([2, 2]), torch.tensor([5, 9, 5, 7]), torch.arange(4), 3000))
    counted = {"target_counts": bytes([3, 1]), "target_carried": b"\x03", "target_ids_1": bytes(2)}
    for change, message in (
        ({"target_ids_1": bytes([255, 0, 0])}, "stored class id 65289 is outside the 3000 classes"),
        # 5, 9 | 5 again as a new class next to the carried one.
        ({"target_ids_0": bytes([5, 3, 5])}, "a class occurs twice in a frame"),
        ({"target_ids_0": bytes([5, 3]), **counted}, "frame 1 has 1 entries, but 2 are carried into it"),
    ):
        packed = joined(codec, [{**good, **change}], [2], 3000)
        for work in (PackedTargets.unpack, as_on_a_device):
            with pytest.raises(StoreError, match=message):
                work(packed)


def test_bits_behind_the_last_entry_say_nothing() -> None:
    codec = TopK(3)
    # 3 entries in each of the first 7 frames: 3 bits of the last byte are free.
    rows = [dict(pack(codec, codec.encode(_speech(8, 50, seed)))) for seed in range(2)]
    expected = unpack(codec, rows, [8, 8], 50)
    for row in rows:
        row["target_carried"] = row["target_carried"][:-1] + bytes([row["target_carried"][-1] | 0b11100000])
    packed = joined(codec, rows, [8, 8], 50)
    for found in (packed.unpack(), as_on_a_device(packed)):
        assert torch.equal(found.ids, expected.ids) and torch.equal(found.log_probs, expected.log_probs)


def test_dense_targets_are_packed_and_unpacked_by_the_same_calls() -> None:
    parts = [_speech(frames, 7, frames) for frames in (3, 0, 5)]
    packed = joined(Dense(), [pack(Dense(), Dense().encode(part)) for part in parts], [3, 0, 5], 7)
    found = packed.map(torch.clone).unpack()
    assert torch.equal(found.to_dense(), torch.cat(parts)) and found.lengths.tolist() == [3, 0, 5]
