"""Which frames count: against plain loops."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.errors import ConfigError
from asrkd.losses.frames import around_labels, best_path, delayed, top_classes
from asrkd.targets.sparse import SparseTargets

UTTERANCES = st.lists(
    st.lists(st.integers(-1, 3).map(lambda c: c if c >= 0 else -100), max_size=9), min_size=1, max_size=4
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(-4, 0)), max_size=5), max_size=6))
def test_top_classes_equal_a_plain_loop(frames: list[list[tuple[int, int]]]) -> None:
    unique = [dict(frame) for frame in frames]
    entries = [sorted(frame.items()) for frame in unique]
    counts = torch.tensor([len(one) for one in entries], dtype=torch.int64)
    flat = [entry for frame in entries for entry in frame]
    ids = torch.tensor([entry[0] for entry in flat], dtype=torch.int64)
    log_probs = torch.tensor([float(entry[1]) for entry in flat])
    found = top_classes(SparseTargets.of_counts(counts, ids, log_probs, torch.zeros(len(counts)), num_classes=21))
    assert found.tolist() == [max(frame, key=lambda e: (e[1], -e[0]))[0] if frame else -100 for frame in entries]


@settings(max_examples=100, deadline=None)
@given(UTTERANCES, st.integers(0, 4))
def test_frames_around_labels_equal_a_plain_loop(utterances: list[list[int]], around: int) -> None:
    expected = [
        any(top[u] > 0 for u in range(max(0, t - around), min(len(top), t + around + 1)))
        for top in utterances
        for t in range(len(top))
    ]
    top = torch.tensor([label for one in utterances for label in one], dtype=torch.int64)
    lengths = torch.tensor([len(one) for one in utterances])
    assert around_labels(top, lengths, around).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 7))
def test_a_delayed_student_answers_later_within_its_utterance(lengths: list[int], frames: int) -> None:
    starts = [sum(lengths[:n]) for n in range(len(lengths))]
    expected = [
        (s + t + frames, s + t) for s, length in zip(starts, lengths, strict=True) for t in range(length - frames)
    ]
    student, teacher = delayed(torch.tensor(lengths), frames)
    assert list(zip(student.tolist(), teacher.tolist(), strict=True)) == expected


@settings(max_examples=100, deadline=None)
@given(UTTERANCES)
def test_the_best_path_collapses_as_ctc_says(utterances: list[list[int]]) -> None:
    expected = [[label for label, _ in itertools.groupby(one) if label > 0] for one in utterances]
    top = torch.tensor([label for one in utterances for label in one], dtype=torch.int64)
    assert best_path(top, torch.tensor([len(one) for one in utterances])) == expected


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="around is -1"):
        around_labels(torch.zeros(2, dtype=torch.int64), torch.tensor([2]), -1)
    with pytest.raises(ConfigError, match="delay is -2"):
        delayed(torch.tensor([3]), -2)
