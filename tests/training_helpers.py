"""The config of a small training, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asrkd import config as configs
from asrkd.training.config import TrainConfig


def settings(corpus: Path, run: Path, **changes: Any) -> TrainConfig:
    given: dict[str, Any] = {
        "run": str(run),
        "threads": 1,
        "model": {"args": {"hidden_dim": 16, "num_layers": 1, "output_delay": 1, "dropout": 0.0}},
        "front_end": {"mean_norm": "causal"},
        "inventory": {"lexicon": str(corpus / "lexicon.txt"), "states_per_phone": 1},
        "sources": {"labeled": {"store": str(corpus / "stores/labeled")}},
        "schedule": [{"steps": 30, "mixture": {"labeled": 1}}],
        "optimizer": {"learning_rate": 0.02, "warmup_steps": 5},
        "augment": {"gain_db": 3.0, "time_masks": 1},
        "batch": {"max_frames": 400, "max_utterances": 8},
        "dev": str(corpus / "stores/labeled"),
        "log_steps": 5,
        "eval_steps": 15,
        "checkpoint_steps": 3,
    }
    for key, value in changes.items():
        given[key] = value
    return configs.from_dict(TrainConfig, given)
