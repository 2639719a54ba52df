"""Dataclass configs: YAML in, dotted overrides, resolved YAML out (over OmegaConf).

A key that does not exist is an error that names the nearest one that does.
"""

from __future__ import annotations

import difflib
import io
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asrkd import text
from asrkd.errors import ConfigError

T = TypeVar("T")


def load(cls: type[T], path: str | Path | None = None, overrides: Iterable[str] = ()) -> T:
    """Read a dataclass config from a YAML file and `key.sub=value` overrides.

    Raises:
        ConfigError: the file is missing or not YAML, a key does not exist, a value has the wrong type,
            or a mandatory value is absent.
    """
    return from_dict(cls, {} if path is None else read_yaml(path), overrides)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file as a mapping.

    Raises:
        ConfigError: the file is missing, not YAML, or no mapping.
    """
    try:
        if not Path(path).exists():
            raise ConfigError(f"config file {str(path)!r} does not exist; give the path of a YAML file")
        content = text.read(path, what="config file", error=ConfigError)
        given = OmegaConf.to_container(OmegaConf.load(io.StringIO(content))) or {}
    except ConfigError:
        raise
    except Exception as error:  # the YAML parser's own kinds
        why = " ".join(str(error).split())
        raise ConfigError(f"config file {str(path)!r} is not valid YAML: {why}") from None
    if not isinstance(given, dict):
        raise ConfigError(f"a config must be a mapping of keys to values, not {type(given).__name__}")
    return cast(dict[str, Any], given)


def from_dict(cls: type[T], given: Any, overrides: Iterable[str] = ()) -> T:
    """Build a dataclass config from a nested mapping and dotted overrides; see `load`."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"a config must be a mapping of keys to values, not {type(given).__name__}")
    dotted = list(overrides)
    for item in dotted:
        if "=" not in item:
            raise ConfigError(f"override {item!r} is not of the form key=value, for example seed=2")
    try:
        extra = OmegaConf.to_container(OmegaConf.from_dotlist(dotted))
    except Exception as error:  # the YAML parser's own kinds
        why = " ".join(str(error).split())
        raise ConfigError(f"overrides {dotted!r} cannot be read as YAML values: {why}") from None
    try:
        _check_keys(cls, given, "")
        _check_keys(cls, extra, "")
        merged = OmegaConf.merge(OmegaConf.structured(cls), OmegaConf.create(dict(given)), OmegaConf.create(extra))
        return cast(T, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        raise ConfigError(f"config key {key!r}: {_reason(error)}" if key else f"config: {_reason(error)}") from None
    except (TypeError, ValueError) as error:  # OmegaConf: a list where a mapping belongs, or the reverse
        raise ConfigError(f"config: {error}; a key has a list where a mapping belongs, or the reverse") from None


def changed(config: T, values: Mapping[str, Any]) -> T:
    """The config with some keys, also nested ones, at other values; raises what `load` raises."""
    _check_keys(type(config), values, "")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(config), OmegaConf.create(dict(values)))
        return cast(T, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(f"config key {getattr(error, 'full_key', None)!r}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """OmegaConf's message without the lines that it adds for its own developers."""
    return " ".join(str(error).partition("\n    full_key:")[0].split())


def _check_keys(kind: Any, given: Any, prefix: str) -> None:
    """Refuse keys that a dataclass does not have, naming the nearest, also within lists, mappings and optionals."""
    arguments = typing.get_args(kind)
    if is_dataclass(kind) and isinstance(given, Mapping):
        known = typing.get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        for key, value in given.items():
            if key not in names:
                near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
                hint = f"did you mean {prefix + near[0]!r}?" if near else f"known keys: {', '.join(sorted(names))}"
                raise ConfigError(f"config key {prefix + str(key)!r} does not exist; {hint}")
            _check_keys(known[key], value, f"{prefix}{key}.")
    elif typing.get_origin(kind) in (list, tuple) and isinstance(given, list):
        for number, value in enumerate(given):
            _check_keys(arguments[0], value, f"{prefix}{number}.")
    elif typing.get_origin(kind) is dict and isinstance(given, Mapping):
        for key, value in given.items():
            _check_keys(arguments[1], value, f"{prefix}{key}.")
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        for argument in arguments:
            _check_keys(argument, given, prefix)


def to_yaml(config: Any) -> str:
    """The resolved config as YAML, which `load` reads back to an equal config.

    (A string with `${...}` in it is OmegaConf's interpolation, and `???` its mark of an absent value.)
    """
    return OmegaConf.to_yaml(OmegaConf.structured(config))
