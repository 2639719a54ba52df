"""The JSON file next to a graph or a scripted module: what its input and its classes are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from asrkd import text
from asrkd.acoustic.model import AcousticModel
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer, tokenizer_from_dict, tokenizer_to_dict
from asrkd.corpus.waveform import AnyFrontEnd, front_end_from_dict
from asrkd.errors import AsrkdError, ModelError


class Description(NamedTuple):
    front_end: AnyFrontEnd
    inventory: Inventory
    subsampling_factor: int
    log_prior: Tensor | None = None
    tokenizer: Tokenizer | None = None


def description_path(path: Path) -> Path:
    """`PATH.json`."""
    return path.with_name(path.name + ".json")


def read_description(spec: str, path: Path) -> Description:
    """The description of the model `path`: `front_end`, `inventory` (`units`, `topology`, `states_per_phone`), and optionally
    `subsampling_factor`, `log_prior` (a natural logarithm for each class) and `tokenizer` (as `asrkd export` writes it).

    Raises:
        ModelError: it cannot be read, or does not describe a model.
    """
    described = description_path(path)
    content = text.read(described, what=f"model {spec!r}: the description", error=ModelError)
    where = f"model {spec!r}: the description {str(described)!r}"
    try:
        values = json.loads(content)
    except ValueError as error:
        raise ModelError(f"{where} is not JSON ({error})") from None
    values = _mapping(values, where)
    for name in ("front_end", "inventory"):
        if name not in values:
            raise ModelError(f"{where} has no {name!r}; it needs front_end, inventory and subsampling_factor")
    factor = _whole(values.get("subsampling_factor", 1), f"{where}: subsampling_factor")
    try:
        front_end = front_end_from_dict(_mapping(values["front_end"], f"{where}: front_end"))
        inventory = _inventory(values["inventory"], f"{where}: inventory")
        log_prior = _log_prior(values.get("log_prior"), f"{where}: log_prior")
        spelled = values.get("tokenizer")
        tokenizer = tokenizer_from_dict(_mapping(spelled, f"{where}: tokenizer")) if spelled else None
        return Description(front_end, inventory, factor, log_prior, tokenizer)
    except ModelError:
        raise
    except (AsrkdError, ArithmeticError, TypeError, ValueError) as error:
        raise ModelError(f"{where}: {error}") from None


def description_of(model: AcousticModel) -> dict[str, Any]:
    """What `read_description` reads, of a model."""
    described: dict[str, Any] = {
        "front_end": model.front_end.to_dict(),
        "inventory": model.inventory.to_dict(),
        "subsampling_factor": model.subsampling_factor,
    }
    if model.log_prior is not None:
        described["log_prior"] = model.log_prior.tolist()
    if model.tokenizer is not None:
        described["tokenizer"] = tokenizer_to_dict(model.tokenizer)
    return described


def _inventory(values: Any, where: str) -> Inventory:
    values = _mapping(values, where)
    units, topology = values.get("units"), values.get("topology")
    if not isinstance(units, list) or not all(isinstance(unit, str) for unit in units):
        raise ModelError(f"{where}: units must be a list of strings, the names of the classes in their order")
    if not isinstance(topology, str):
        raise ModelError(f"{where}: topology is {topology!r}, but must be ctc or hmm")
    _whole(values.get("states_per_phone", 1), f"{where}: states_per_phone")
    return Inventory.from_dict(values)


def _log_prior(value: Any, where: str) -> Tensor | None:
    """(V,) float32; `AcousticModel` checks its size."""
    if value is None:
        return None
    if not isinstance(value, list) or any(type(number) not in (int, float) for number in value):
        raise ModelError(f"{where} must be a list of numbers, a natural logarithm for each class")
    return torch.tensor([float(number) for number in value])


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ModelError(f"{where} is a {type(value).__name__}, but must be an object of names and values")
    return value


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{where} is {value!r}, but must be a whole number of at least 1")
    return value
