from __future__ import annotations

import json
from pathlib import Path

import pytest

from asrkd.training.metrics import rising_dev


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([3.8, 4.1, 4.9], True),
        ([3.8, 4.1, 3.9], True),
        ([3.8, 3.7, 4.9], False),
        ([3.8, 3.0, 2.9], False),
        ([3.8, 4.9], False),
        ([], False),
    ],
)
def test_a_dev_loss_that_rises_from_the_start_is_said(tmp_path: Path, losses: list[float], said: bool) -> None:
    lines = [{"step": 1, "labeled": 5.0}, *({"step": 100 * n, "dev": loss} for n, loss in enumerate(losses, 1))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    warning = rising_dev(tmp_path)
    assert (warning is not None) == said
    if warning:
        assert "3.8 after 100 updates" in warning and f"after {100 * len(losses)}" in warning
