"""Calibration against a plain loop over frames; that of whole models is tried with their alignments, in test_align_store.py."""

from __future__ import annotations

import numpy as np
import pytest

from asrkd.alignment.calibration import BINS, calibrate


def test_bins_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(5, 0.3), 400).astype(np.float32)
    path = rng.integers(5, size=400)
    found = calibrate(np.log(probs), path)
    expected = [[0, 0, 0.0] for _ in range(BINS)]
    for frame, label in zip(probs.astype(np.float64), path, strict=True):
        one = expected[min(int(frame.max() * BINS), BINS - 1)]
        one[0], one[1], one[2] = one[0] + 1, one[1] + int(frame.argmax() == label), one[2] + frame.max()
    assert found.frames.tolist() == [one[0] for one in expected]
    assert found.right.tolist() == [one[1] for one in expected]
    np.testing.assert_allclose(found.confidence, [one[2] for one in expected], rtol=1e-5)
    assert found.error == pytest.approx(sum(abs(one[1] - one[2]) for one in expected) / 400, rel=1e-5)
    confidences, accuracies = found.curve()
    assert len(confidences) == len(accuracies) == sum(one[0] > 0 for one in expected)


def test_a_model_that_is_as_often_right_as_it_is_sure_has_no_error() -> None:
    sure = np.log(np.array([[0.75, 0.25]] * 4, dtype=np.float32))
    assert calibrate(sure, np.array([0, 0, 0, 1])).error == pytest.approx(0.0, abs=1e-6)
    assert calibrate(sure, np.array([1, 1, 1, 1])).error == pytest.approx(0.75, abs=1e-6)
