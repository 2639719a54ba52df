"""Sparse targets of one utterance and of several."""

from __future__ import annotations

import pytest
import torch

from asrkd.errors import MismatchError
from asrkd.targets.sparse import SparseTargets


def of_rows(rows: list[list[tuple[int, float]]], missing: list[float], num_classes: int = 5) -> SparseTargets:
    ids, log_probs = zip(*(entry for row in rows for entry in row), strict=True)
    counts = torch.tensor([len(row) for row in rows])
    return SparseTargets.of_counts(
        counts, torch.tensor(ids), torch.tensor(log_probs), torch.tensor(missing), num_classes
    )


def test_frames_of_a_batch_are_taken_in_any_order() -> None:
    rows = [[(1, -0.5)], [], [(0, -1.0), (3, -2.0)], [(2, -0.1), (3, -3.0), (4, -4.0)]]
    batch = of_rows(rows, [0.1, 1.0, 0.2, 0.3])
    for places in ([3, 0, 1], [1], [], [2, 2]):
        found = batch.frames(torch.tensor(places, dtype=torch.int64))
        expected = [entry for place in places for entry in rows[place]]
        assert found.row_splits.diff().tolist() == [len(rows[place]) for place in places]
        assert found.ids.tolist() == [key for key, _ in expected]
        assert found.log_probs.tolist() == pytest.approx([value for _, value in expected])
        assert found.missing.tolist() == batch.missing[places].tolist()


def test_utterances_are_joined_one_after_another() -> None:
    one, other = of_rows([[(1, -0.5)], []], [0.1, 1.0]), of_rows([[(0, -1.0), (3, -2.0)]], [0.2])
    batch = SparseTargets.cat([one, other, one])
    assert batch.lengths.tolist() == [2, 1, 2] and batch.num_frames == 5
    assert batch.row_splits.tolist() == [0, 1, 1, 3, 4, 4] and batch.entry_frames.tolist() == [0, 2, 2, 3]
    assert batch.ids.tolist() == [1, 0, 3, 1] and batch.log_probs.tolist() == [-0.5, -1.0, -2.0, -0.5]
    torch.testing.assert_close(batch.missing, torch.tensor([0.1, 1.0, 0.2, 0.1, 1.0]))
    torch.testing.assert_close(batch.to_dense(), torch.cat([part.to_dense() for part in (one, other, one)]))
    with pytest.raises(MismatchError, match="over 5, 6 classes"):
        SparseTargets.cat([one, of_rows([[(1, -0.5)]], [0.1], 6)])


def test_what_does_not_belong_together_is_refused() -> None:
    ids, log_probs, missing, lengths = torch.tensor([1]), torch.tensor([0.0]), torch.zeros(1), torch.tensor([1])
    with pytest.raises(MismatchError, match="row_splits do not cover the 1 entries"):
        SparseTargets(torch.tensor([0, 2]), ids, log_probs, missing, 3, lengths)
    with pytest.raises(MismatchError, match="1 ids, 2 log_probs, 1 frames and 1 values"):
        SparseTargets(torch.tensor([0, 1]), ids, torch.zeros(2), missing, 3, lengths)
    with pytest.raises(MismatchError, match="utterances of 2 frames have targets of 1"):
        SparseTargets(torch.tensor([0, 1]), ids, log_probs, missing, 3, torch.tensor([2]))
