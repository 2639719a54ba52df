"""Events as TensorBoard itself reads them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from asrkd.training.board import Board


def read(folder: Path, name: str) -> list[tuple[int, object]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    board = Board(tmp_path / "new/board", 1)
    for step in range(1, 6):
        board.add("train/loss", 1 / step, step)
    # Before it is closed, too.
    assert read(tmp_path / "new/board", "train/loss") == [(step, 1 / step) for step in range(1, 6)]
    board.close()


def test_what_is_repeated_replaces_what_was_there(tmp_path: Path) -> None:
    """As a run does that resumes from a checkpoint before its last figures."""
    for first, value in ((1, 1.0), (4, 2.0)):
        board = Board(tmp_path, first)
        for step in range(first, 7):
            board.add("dev", value, step)
        board.close()
    assert read(tmp_path, "dev") == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]


def test_it_has_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    board = Board(tmp_path, 1)
    board.add("dev", 1.0, 1)
    assert threading.active_count() == before
    board.close()
