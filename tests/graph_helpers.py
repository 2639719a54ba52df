"""What tests of graphs share that need the whole package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from asrkd import config as configs
from asrkd.alignment.align_store import align_store
from asrkd.store import Store
from asrkd.training.config import TrainConfig
from asrkd.training.trainer import Trainer

needs_k2 = pytest.mark.skipif(
    find_spec("k2") is None, reason="k2 is not installed; it has no wheel on PyPI for this torch (docs/sequence.md)"
)


def run_settings(corpus: Path, store: Path, run: Path, topology: str = "hmm", **changes: Any) -> TrainConfig:
    """A small run on a labeled store."""
    given: dict[str, Any] = {
        "run": str(run),
        "threads": 1,
        "model": {"args": {"hidden_dim": 16, "num_layers": 1, "output_delay": 1, "dropout": 0.0}},
        "front_end": {"mean_norm": "causal"},
        "inventory": {"lexicon": str(corpus / "lexicon.txt"), "topology": topology, "states_per_phone": 1},
        "sources": {"labeled": {"store": str(store)}},
        "schedule": [{"steps": 20, "mixture": {"labeled": 1}}],
        "optimizer": {"learning_rate": 0.01, "warmup_steps": 3, "ema_decay": 0.0},
        "batch": {"max_frames": 400, "max_utterances": 8},
        "log_steps": 1,
        "checkpoint_steps": 3,
    }
    return configs.from_dict(TrainConfig, given | changes)


def trained(corpus: Path, folder: Path, topology: str) -> Path:
    """The folder of a small run on the labeled set, from a flat start for `hmm`."""
    store = corpus / "stores/labeled"
    if topology == "hmm":
        align_store(Store.open(str(store)), str(folder / "flat"), corpus / "lexicon.txt", states_per_phone=1)
        store = folder / "flat"
    Trainer(run_settings(corpus, store, folder / "run", topology)).train()
    return folder / "run"
