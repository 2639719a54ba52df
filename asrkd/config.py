"""Dataclass configs: every key is declared once, as a `setting`; YAML in, dotted overrides, resolved YAML out.

A wrong value is refused with an error that begins with its full key, whether it comes from a file, an override or Python.
"""

from __future__ import annotations

import difflib
import functools
import io
import math
import numbers
import operator
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from asrkd import text
from asrkd.errors import ConfigError

T = TypeVar("T")

# How a run that was stopped is compared with the config of the start that resumes it (`asrkd.training.run_folder`); a key without such a mark
# changes results, so that it must be as it was.
MAY_CHANGE = "may change"
BY_CONTENT = "by content"

_ENDS = {"at least": operator.ge, "above": operator.gt, "at most": operator.le, "below": operator.lt}


def setting(
    default: Any = MISSING,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    infinite: bool = False,
    pair: bool = False,
    one_of: Sequence[str] = (),
    form: Callable[[Any], object] | None = None,
    resume: str = "",
) -> Any:
    """A key of a config: a field of a dataclass, with the values that it takes. The docstring below it says what it is for (docs/config.md).

    Ranges, choices and forms hold for every element of a list or mapping.

    Args:
        default: a value, or what is called for one; a key without it is required. Only where the default is empty a string may be.
        at_least, above, at_most, below: the range of a number.
        infinite: whether infinity has a meaning; NaN never has.
        pair: each list is a lowest and a highest value.
        one_of: all that a string may be.
        form: raises `ConfigError` for a string that it cannot read, and of a mapping to any values for the mapping; not called with an empty one.
        resume: `MAY_CHANGE` or `BY_CONTENT`.
    """
    ends = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    limits = {name: end for name, end in ends.items() if end is not None}
    marks = {
        "limits": limits,
        "infinite": infinite,
        "pair": pair,
        "one_of": tuple(one_of),
        "form": form,
        "resume": resume,
    }
    if callable(default):
        return field(default_factory=default, metadata=marks)
    return field(default=default, metadata=marks)


def same_as(section: type, key: str) -> Any:
    """A key that is another section's under its own name: with its default and its checks."""
    (declared,) = (declared for declared in fields(cast(Any, section)) if declared.name == key)
    return field(default=declared.default, default_factory=declared.default_factory, metadata=declared.metadata)  # type: ignore[call-overload]


class _WrongValue(ConfigError):
    """Attributes: key: from the section that was checked; why: the message without it."""

    key = why = ""


def wrong_value(key: str, why: str, place: str = "") -> _WrongValue:
    """The error of a key of the section at `place`, to be raised."""
    error = _WrongValue(f"{_joined(place, key)}: {why}")
    error.key, error.why = key, why
    return error


def _joined(place: str, key: str) -> str:
    return f"{place}.{key}" if place and key else place or key


def check(section: Any, place: str = "") -> None:
    """Check a dataclass of settings, and convert what it was given: mappings to sections, whole numbers to floats.

    For `__post_init__`. A section with a place of its own is checked when it is made, a member of a list or mapping (a phase, a source) by the
    config that holds it, which knows its key. A section may have a method `conflicts` that yields (key, why) where keys do not go together.

    Raises:
        ConfigError: a value of another type or out of range, or keys that do not go together; it begins with the full key.
    """
    try:
        _check(section, "")
    except _WrongValue as error:
        raise wrong_value(error.key, error.why, place) from None


@functools.cache
def _kinds(section: Any) -> dict[str, Any]:
    return typing.get_type_hints(section)


def _check(section: Any, place: str) -> None:
    kinds = _kinds(cast(Any, type(section)))
    for declared in fields(section):
        value = getattr(section, declared.name)
        object.__setattr__(
            section, declared.name, _value(kinds[declared.name], value, _joined(place, declared.name), declared)
        )
    for key, why in section.conflicts() if hasattr(section, "conflicts") else ():
        raise wrong_value(_joined(place, key), why)


def _value(kind: Any, value: Any, key: str, declared: Field[Any]) -> Any:
    """A value as its annotation wants it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return _plain(value, key)
    if is_dataclass(kind):
        return _section(cast(type, kind), value, key)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _value(inner, value, key, declared)
    if origin is list:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise wrong_value(key, f"must be a list, not {_shown(value)}")
        items = [_value(arguments[0], item, f"{key}[{number}]", declared) for number, item in enumerate(value)]
        if declared.metadata.get("pair") and not is_pair(items):
            nullable = " (null for none)" if types.NoneType in typing.get_args(arguments[0]) else ""
            raise wrong_value(key, f"must be a lowest and a highest value{nullable}, not {_shown(value)}")
        return items
    if origin is dict:
        _check_mapping(value, key)
        if odd := [name for name in value if not isinstance(name, str)]:
            raise wrong_value(key, f"has the name {odd[0]!r}, but names must be strings; put it in quotes")
        values = {name: _value(arguments[1], item, f"{key}.{name}", declared) for name, item in value.items()}
        if arguments[1] is Any:
            _check_form(values, key, declared)
        return values
    return _leaf(kind, value, key, declared)


def is_pair(values: Sequence[float | None]) -> bool:
    """Whether these are a lowest and a highest value, None for none."""
    return len(values) == 2 and (values[0] is None or values[1] is None or values[0] <= values[1])


def _plain(value: Any, key: str) -> Any:
    """A value that YAML can hold, of a key that takes any: NaN, which has no meaning, is refused, too."""
    if isinstance(value, Mapping):
        return {name: _plain(item, _joined(key, str(name))) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{key}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, float) and math.isnan(value):
        raise wrong_value(key, f"must not be {value}")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not isinstance(value, str | bool | int | float | None):
        raise wrong_value(key, f"must be a value of YAML, not {_shown(value)}")
    return value


def _check_form(value: Any, key: str, declared: Field[Any]) -> None:
    form = declared.metadata.get("form")
    if not form or not value:
        return
    try:
        form(value)
    except _WrongValue as error:
        raise wrong_value(_joined(key, error.key), error.why) from None
    except ConfigError as error:
        raise wrong_value(key, str(error)) from None


def _section(kind: type, value: Any, key: str) -> Any:
    """A dataclass from a mapping; one that was made before is checked again, at its place."""
    if not isinstance(value, kind):
        _check_mapping(value, key)
        known = {declared.name: declared for declared in fields(cast(Any, kind))}
        for name in value:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
                hint = f"did you mean {_joined(key, near[0])!r}?" if near else f"known keys: {', '.join(sorted(known))}"
                raise wrong_value(_joined(key, str(name)), f"there is no such key; {hint}")
        kinds = _kinds(kind)
        # What is set comes before what is missing, so that a misspelled key in a section is told first.
        values = {name: _value(kinds[name], item, _joined(key, name), known[name]) for name, item in value.items()}
        for name, declared in known.items():
            if name not in values and declared.default is MISSING and declared.default_factory is MISSING:
                if not is_dataclass(kinds[name]):
                    raise wrong_value(_joined(key, name), "is required, but not set")
                values[name] = _section(kinds[name], {}, _joined(key, name))
        try:
            value = kind(**values)
        except _WrongValue as error:
            raise wrong_value(_joined(key, error.key), error.why) from None
    _check(value, key)
    return value


def _check_mapping(value: Any, key: str) -> None:
    if not isinstance(value, Mapping):
        raise wrong_value(key or "config", f"must be a mapping of keys to values, not {_shown(value)}")


_LARGEST = 2**63 - 1
_LEAVES: dict[type, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    # A whole number without quotes in YAML, or a path in Python. Of others it is not known how they were written: 1.10 is 1.1.
    str: (str | int | os.PathLike, "a string"),
}


def _leaf(kind: type, value: Any, key: str, declared: Field[Any]) -> Any:
    """A string, number or truth value, within its range."""
    marks, (accepted, what), shown = declared.metadata, _LEAVES[kind], _shown(value)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        quotes = "; put it in quotes" if kind is str and isinstance(value, numbers.Real) else ""
        raise wrong_value(key, f"must be {what}, not {shown}{quotes}")
    try:
        value = kind(value)
    except OverflowError:
        raise wrong_value(key, f"must be {what}, not {shown}") from None
    if kind is float and (math.isnan(value) or (math.isinf(value) and not marks.get("infinite"))):
        raise wrong_value(key, f"must be a finite number, not {shown}")
    if kind is int and not -_LARGEST <= value <= _LARGEST:
        raise wrong_value(key, f"must be a 64-bit whole number, not {shown}")
    limits = marks.get("limits", {})
    if not all(_ENDS[name](value, end) for name, end in limits.items()):
        wanted = " and ".join(f"{name} {end}" for name, end in limits.items())
        raise wrong_value(key, f"must be {wanted}, not {shown}")
    if marks.get("one_of") and value not in marks["one_of"]:
        near = difflib.get_close_matches(value, marks["one_of"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise wrong_value(key, f"must be one of {', '.join(marks['one_of'])}, not {shown}{hint}")
    if kind is str and not value and declared.default != "" and declared.default_factory is MISSING:
        raise wrong_value(key, f"must not be empty, not {shown}")
    if kind is str:
        _check_form(value, key, declared)
    return value


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:200]}..."


def load(cls: type[T], path: str | Path | None = None, overrides: Iterable[str] = ()) -> T:
    """Read a dataclass config from a YAML file and `key.sub=value` overrides (`key[0].sub=value` in a list).

    Raises:
        ConfigError: the file is missing or not YAML, a key does not exist, a value is of another type or out of range, or a required one is not set.
    """
    return from_dict(cls, {} if path is None else read_yaml(path), overrides)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file as a mapping.

    Raises:
        ConfigError: the file is missing, not YAML, or not a mapping.
    """
    from omegaconf import OmegaConf  # here and below: for YAML and overrides alone

    try:
        if not Path(path).exists():
            raise ConfigError(f"config file {str(path)!r} does not exist; give the path of a YAML file")
        content = text.read(path, what="config file", error=ConfigError)
        values = OmegaConf.to_container(OmegaConf.load(io.StringIO(content))) or {}
    except ConfigError:
        raise
    except Exception as error:  # the YAML parser's own kinds
        raise ConfigError(f"config file {str(path)!r} is not valid YAML: {_reason(error)}") from None
    _check_mapping(values, "")
    return cast(dict[str, Any], values)


def from_dict(cls: type[T], values: Any, overrides: Iterable[str] = ()) -> T:
    """Build a dataclass config from a nested mapping and dotted overrides; see `load`."""
    _check_mapping(values, "")
    values, dotted = _plain(values, ""), list(overrides)
    for item in dotted:
        if "=" not in item:
            raise ConfigError(f"override {item!r} is not of the form key=value, for example seed=2")
    return cast(T, _section(cls, _resolved(values, lambda merged: merged.merge_with_dotlist(dotted)), ""))


def changed(config: T, values: Mapping[str, Any], place: str = "") -> T:
    """The config with some keys, also nested ones, at other values; raises what `load` raises, with `place` before the key."""
    try:
        plain = _plain(values, "")
        merged = _resolved(asdict(cast(Any, config)), lambda merged: merged.merge_with(plain))
        return cast(T, _section(type(config), merged, ""))
    except _WrongValue as error:
        # Of the section that the caller is.
        raise wrong_value(_joined(place, error.key), error.why) from None


def section(cls: type[T], values: Any, place: str) -> T:
    """A section from a mapping of plain values, without interpolations; raises what `load` raises, with `place` before the key."""
    _check_mapping(values, place)
    try:
        return cast(T, _section(cls, values, ""))
    except _WrongValue as error:
        raise wrong_value(error.key, error.why, place) from None


def _resolved(values: Mapping[str, Any], change: Callable[[Any], None]) -> Any:
    """Plain containers of a mapping after a change, its interpolations resolved."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        merged = OmegaConf.create(dict(values))
        change(merged)
        return OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise wrong_value(getattr(error, "full_key", None) or "config", _reason(error)) from None
    except Exception as error:  # the YAML parser's own kinds, of an override
        raise ConfigError(f"overrides cannot be read as YAML values: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """A message in one line, without the lines that OmegaConf adds for its own developers."""
    return " ".join(str(error).partition("\n    full_key:")[0].split())


def to_yaml(config: Any) -> str:
    """The resolved config as YAML, which `load` reads back to an equal config.

    (A string with `${...}` in it is OmegaConf's interpolation, and `???` its mark of an absent value.)
    """
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))
