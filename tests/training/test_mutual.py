"""Students that teach each other in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_helpers import settings

from asrkd import checkpoint
from asrkd.acoustic import load_model
from asrkd.errors import ConfigError
from asrkd.models import count_parameters
from asrkd.training.metrics import read_metrics
from asrkd.training.trainer import Trainer


@pytest.mark.slow
def test_peers_come_closer_to_each_other_and_go_on_exactly(corpus: Path, tmp_path: Path) -> None:
    def config(name: str, weight: float) -> Any:
        return settings(corpus, tmp_path / name, mutual={"students": 2, "weight": weight})

    for name, weight in (("apart", 0.0), ("together", 20.0)):
        Trainer(config(name, weight)).train()
    for stop in (7, 30):
        Trainer(config("parts", 20.0)).train(stop_at=stop)
    width = Trainer(config("apart", 0.0)).front_end.feature_dim
    features, lengths = torch.randn(8, 50, width, generator=torch.Generator().manual_seed(0)), torch.full((8,), 50)
    distances = {}
    for name in ("apart", "together"):
        first, second = (load_model(f"checkpoint:{tmp_path / name / file}") for file in ("final.pt", "peer-2.pt"))
        assert first.fingerprint != second.fingerprint
        one, other = (teacher.log_probs(features, lengths)[0].exp() for teacher in (first, second))
        distances[name] = float((one - other).abs().sum())
    assert distances["together"] < 0.7 * distances["apart"]
    lines = read_metrics(tmp_path / "together")
    assert any("labeled_mutual" in line for line in lines)
    for file in ("final.pt", "peer-2.pt"):
        whole, parts = (checkpoint.read(tmp_path / name / file)["model"] for name in ("together", "parts"))
        assert all(torch.equal(value, parts[key]) for key, value in whole.items())
    assert checkpoint.read(tmp_path / "together/final.pt")["num_parameters"] == count_parameters(
        load_model(f"checkpoint:{tmp_path / 'together'}").network  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mutual": {"students": 0}}, "^mutual.students: must be at least 1, not 0"),
        ({"mutual": {"students": 2}, "init": "x.pt"}, "init 'x.pt' would start all of them alike"),
        (
            {
                "mutual": {"students": 2},
                "schedule": [{"steps": 2, "mixture": {"labeled": 1}, "criterion": "mmi"}],
            },
            "has a sequence criterion, which trains one student",
        ),
    ],
)
def test_what_does_not_go_together(corpus: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainer(settings(corpus, tmp_path / "run", **changes))
