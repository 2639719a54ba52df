"""The folder of a run: the config and versions that made it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from asrkd import config as configs
from asrkd.errors import ConfigError
from asrkd.training.config import TrainConfig
from asrkd.training.metrics import write_whole


def prepare(run: Path, config: TrainConfig) -> None:
    """Write the resolved config, or refuse a folder that holds another run.

    Raises:
        ConfigError: the folder is of another config.
    """
    run.mkdir(parents=True, exist_ok=True)
    resolved = configs.to_yaml(config)
    path = run / "config.yaml"
    if path.exists() and path.read_text(encoding="utf-8") != resolved:
        changed = _first_difference(path.read_text(encoding="utf-8"), resolved)
        raise ConfigError(
            f"run folder {str(run)!r} holds a run of another config ({changed}); going on would mix the two. "
            "Choose another run folder or remove this one"
        )
    if not path.exists():
        write_whole(path, resolved)
        versions = {"python": sys.version.split()[0], "torch": torch.__version__, "command": sys.argv}
        write_whole(run / "versions.json", json.dumps(versions, indent=2) + "\n")


def _first_difference(old: str, new: str) -> str:
    for before, after in zip(old.split("\n"), new.split("\n"), strict=False):
        if before != after:
            return f"{before.strip()!r} there, {after.strip()!r} here"
    return "other length"
