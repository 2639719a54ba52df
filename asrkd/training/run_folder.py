"""The folder of a run: the config, inputs and versions that made it, and whether a later start may resume it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from asrkd import config as configs
from asrkd import files, text
from asrkd.config import BY_CONTENT, MAY_CHANGE
from asrkd.errors import ConfigError
from asrkd.training.config import TrainConfig

CONFIG, INPUTS = "config.yaml", "inputs.json"


def prepare(run: Path, config: TrainConfig, inputs: Mapping[str, str]) -> None:
    """Note the config and the inputs of a new run; of one that is there, see that resuming changes nothing.

    Args:
        run: the folder.
        config: of this start.
        inputs: fingerprints of what the config names, by key (`asrkd.training.inputs`).

    Raises:
        ConfigError: the folder is of another config, or an input has changed.
        AsrkdError: it cannot be written to.
    """
    files.check_folder(run)
    begun = check_resumable(run, config, inputs)
    noted = _noted_inputs(run) if begun else {}
    # An input that an earlier version did not note counts as unchanged until now.
    if dict(inputs) | noted != noted or not (run / INPUTS).exists():
        files.write(run / INPUTS, json.dumps(dict(inputs) | noted, indent=2, ensure_ascii=False) + "\n")
    resolved = configs.to_yaml(config)
    path = run / CONFIG
    if not path.exists():
        versions = {"python": sys.version.split()[0], "torch": torch.__version__, "command": sys.argv}
        files.write(run / "versions.json", json.dumps(versions, indent=2, ensure_ascii=False) + "\n")
    if not path.exists() or path.read_bytes() != resolved.encode():
        files.write(path, resolved)


def check_resumable(run: Path, config: TrainConfig, inputs: Mapping[str, str]) -> bool:
    """Whether a run has begun in a folder that this config resumes.

    Keys that change no result (`MAY_CHANGE`) may be others; what a key names (`BY_CONTENT`) may have moved, with the content that it had.

    Raises:
        ConfigError: the folder holds a run of another config, or an input has changed since it began.
    """
    if not has_config(run):
        return False
    path = run / CONFIG
    try:
        before = configs.load(TrainConfig, path)
    except ConfigError as error:
        raise ConfigError(
            f"run folder {str(run)!r} holds a run of another config ({error}); choose another run folder or remove this one"
        ) from None
    with_paths = not (run / INPUTS).exists()  # of an earlier version, which noted no contents
    there, here = results_of(before, with_paths=with_paths), results_of(config, with_paths=with_paths)
    changed = [
        f"{key}: {_shown(there, key)} there, {key}: {_shown(here, key)} here"
        for key in dict.fromkeys([*there, *here])
        if there.get(key, _ABSENT) != here.get(key, _ABSENT)
    ]
    if changed:
        raise ConfigError(
            f"run folder {str(run)!r} holds a run of another config ({'; '.join(changed)}); resuming would mix the two. "
            "Choose another run folder or remove this one"
        )
    begun = any((run / name).exists() for name in ("last.pt", "final.pt"))
    noted = _noted_inputs(run) if begun else {}
    for key, fingerprint in inputs.items():
        if noted.get(key, fingerprint) != fingerprint:
            raise ConfigError(
                f"{key} ({_value(config, key)!r}) has another content than when the run in {str(run)!r} began; resuming would train on two. "
                "Restore it, or choose another run folder"
            )
    return begun


def has_config(run: Path) -> bool:
    """Whether there is a run in a folder, begun or not."""
    return (run / CONFIG).exists()


_ABSENT = object()


def results_of(config: Any, prefix: str = "", *, with_paths: bool = False) -> dict[str, Any]:
    """The keys of a config that change results, with their values; paths of inputs only on demand, else whether there are any."""
    found: dict[str, Any] = {}
    if is_dataclass(config):
        for field in fields(config):
            value, key = getattr(config, field.name), f"{prefix}{field.name}"
            if field.metadata.get("resume") == MAY_CHANGE:
                continue
            if field.metadata.get("resume") == BY_CONTENT and not with_paths:
                found[key] = bool(value)
            else:
                found |= results_of(value, f"{key}.", with_paths=with_paths)
    elif isinstance(config, Mapping) and config:
        for name, value in config.items():
            found |= results_of(value, f"{prefix}{name}.", with_paths=with_paths)
    elif isinstance(config, list) and any(is_dataclass(value) for value in config):
        for number, value in enumerate(config):
            found |= results_of(value, f"{prefix}{number}.", with_paths=with_paths)
    else:
        found[prefix[:-1]] = config
    return found


def _value(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config[name] if isinstance(config, Mapping) else getattr(config, name)
    return config


def _shown(values: Mapping[str, Any], key: str) -> str:
    return "none" if key not in values else str(values[key])


def _noted_inputs(run: Path) -> dict[str, str]:
    path = run / INPUTS
    if not path.exists():
        return {}
    try:
        noted = json.loads(text.read(path, what="inputs", error=ConfigError))
        return {str(key): str(value) for key, value in noted.items()}
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{str(path)!r} is damaged ({error}); restore it, or choose another run folder") from None
