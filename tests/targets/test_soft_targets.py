"""Soft targets of a batch."""

from __future__ import annotations

import pytest
import torch

from asrkd.targets.soft_targets import SparseBatch


def test_frames_of_a_batch_are_taken_in_any_order() -> None:
    rows = [[(1, -0.5)], [], [(0, -1.0), (3, -2.0)], [(2, -0.1), (3, -3.0), (4, -4.0)]]
    splits = torch.tensor([0, 1, 1, 3, 6])
    ids, log_probs = zip(*(entry for row in rows for entry in row), strict=True)
    batch = SparseBatch(splits, torch.tensor(ids), torch.tensor(log_probs), torch.tensor([0.1, 1.0, 0.2, 0.3]))
    for places in ([3, 0, 1], [1], [], [2, 2]):
        found = batch.frames(torch.tensor(places, dtype=torch.int64))
        expected = [entry for place in places for entry in rows[place]]
        assert found.row_splits.diff().tolist() == [len(rows[place]) for place in places]
        assert found.ids.tolist() == [key for key, _ in expected]
        assert found.log_probs.tolist() == pytest.approx([value for _, value in expected])
        assert found.missing.tolist() == batch.missing[places].tolist()
