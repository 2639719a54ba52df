from __future__ import annotations

import numpy as np
import pytest
import torch

from asrkd.errors import MismatchError
from asrkd.streaming.batch import Utterance, collate
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import POSTERIORS


def _soft(frames: int, seed: int) -> SparseTargets:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, frames)
    entries = int(counts.sum())
    parts = (
        counts,
        rng.integers(0, 9, entries),
        rng.standard_normal(entries).astype(np.float32),
        rng.random(frames).astype(np.float32),
    )
    return SparseTargets.of_counts(*map(torch.from_numpy, parts), num_classes=9)


def _utterance(name: str, frames: int, **more: object) -> Utterance:
    features = torch.randn(frames, 3, generator=torch.Generator().manual_seed(frames))
    return Utterance(id=name, source="s", features=features, num_frames=frames, seconds=1.5, **more)  # type: ignore[arg-type]


def test_collate_against_a_plain_loop() -> None:
    utterances = [
        _utterance("a", 4, streams={POSTERIORS: _soft(4, 0)}, text="x"),
        _utterance("b", 2, alignment=np.array([1, 2]), speaker="p"),
        _utterance("c", 6, streams={POSTERIORS: _soft(6, 1)}, alignment=np.arange(6)),
    ]
    batch = collate(utterances)
    assert len(batch) == 3 and batch.ids == ["a", "b", "c"] and batch.seconds == 4.5
    assert batch.texts == ["x", None, None] and batch.speakers == [None, "p", None]
    for row, utterance in enumerate(utterances):
        length = len(utterance.features)
        assert torch.equal(batch.features[row, :length], utterance.features)
        assert not batch.features[row, length:].any()
    assert batch.feature_lengths.tolist() == batch.num_frames.tolist() == [4, 2, 6]
    assert batch.has[POSTERIORS].tolist() == [True, False, True]
    assert batch.alignment is not None
    assert batch.alignment.tolist() == [[-100] * 6, [1, 2] + [-100] * 4, list(range(6))]
    assert batch.targets is not None
    row = 0
    for utterance in (utterances[0], utterances[2]):
        soft = utterance.targets
        assert soft is not None
        for frame in range(soft.num_frames):
            mine = slice(int(batch.targets.row_splits[row]), int(batch.targets.row_splits[row + 1]))
            theirs = slice(int(soft.row_splits[frame]), int(soft.row_splits[frame + 1]))
            assert batch.targets.ids[mine].tolist() == soft.ids[theirs].tolist()
            assert batch.targets.log_probs[mine].tolist() == soft.log_probs[theirs].tolist()
            assert float(batch.targets.missing[row]) == soft.missing[frame]
            row += 1
    assert row == len(batch.targets.missing)


def test_without_any_targets_there_are_none() -> None:
    batch = collate([_utterance("a", 3)])
    assert batch.targets is None and batch.alignment is None


def test_another_number_of_frames_is_refused_with_both_numbers() -> None:
    with pytest.raises(MismatchError, match="'a'.*5 frames.*4 frames"):
        collate([_utterance("a", 4, streams={POSTERIORS: _soft(5, 0)})])
    with pytest.raises(MismatchError, match="alignment of 3 frames.*4 frames"):
        collate([_utterance("a", 4, alignment=np.arange(3))])


def test_to_moves_every_tensor() -> None:
    batch = collate([_utterance("a", 4, streams={POSTERIORS: _soft(4, 0)}, alignment=np.arange(4))]).to("meta")
    tensors = [batch.features, batch.feature_lengths, batch.num_frames, batch.has[POSTERIORS], batch.alignment]
    assert batch.targets is not None
    tensors += [value for value in vars(batch.targets).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 10
    assert all(tensor is not None and tensor.device.type == "meta" for tensor in tensors)
    assert batch.ids == ["a"]
