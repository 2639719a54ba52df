"""What a training's config says is done in a study as from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_helpers import settings

from asrkd.training.metrics import read_metrics
from asrkd_recipes.study.jobs import train_all


@pytest.mark.slow
def test_a_training_of_one_process_decodes_the_dev_set_and_its_warnings_are_told(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = settings(
        corpus,
        tmp_path / "run",
        schedule=[{"steps": 4, "mixture": {"labeled": 1}}],
        eval_steps=2,
        dev_decoding={"every": 1, "insertion_penalty": -2.0},
    )
    train_all({"student": job}, 1, lambda *_: None)
    assert [line["step"] for line in read_metrics(tmp_path / "run") if "dev_wer" in line] == [2, 4]
    # Four updates are too few for any.
    assert "student: the result does not fit its own training set" in caplog.text
