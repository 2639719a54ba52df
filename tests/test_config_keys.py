"""Every key of every config: a wrong value is one error that begins with the full key and quotes the value, and no right value is refused."""

from __future__ import annotations

import json
import math
import re
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from asrkd import config
from asrkd.acoustic.ensemble import EnsembleSettings
from asrkd.acoustic.lattice import LatticeSettings
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError
from asrkd.training.config import TrainConfig
from asrkd_recipes.study.config import StudyConfig

# A config of each kind in which every list and mapping of sections has one.
PHASE = {"steps": 1, "mixture": {"s": 1}}
BASES: dict[type, dict[str, Any]] = {
    TrainConfig: {
        "run": "r",
        "inventory": {"lexicon": "l"},
        "sources": {"s": {"store": "x", "bounds": {"confidence": [0, 1]}}},
        "schedule": [PHASE],
        "dev": "d",
    },
    StudyConfig: {
        "work": "w",
        "data": "d",
        "tests": {"clean": "c"},
        "variants": {"v": {}},
        "sequence": {"q": {"schedule": [PHASE]}},
        "generations": [[PHASE]],
        "distilled": [PHASE],
        "decoding": {"searches": {"d": {}}},
    },
    EnsembleSettings: {"teachers": [{"spec": "m"}]},
    LatticeSettings: {"teacher": "m", "lexicon": "l"},
}


@dataclass(frozen=True)
class Key:
    """A key: the config, the path to it (names, and places in lists), its annotation and its field."""

    config: type
    path: tuple[str | int, ...]
    kind: Any
    declared: Field[Any]

    @property
    def name(self) -> str:
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)[1:]

    def set_to(self, value: Any) -> dict[str, Any]:
        """The base with this key at a value."""
        values: Any = json.loads(json.dumps(BASES[self.config]))
        node = values
        for part in self.path[:-1]:
            node = node[part] if isinstance(node, list) else node.setdefault(part, {})
        node[self.path[-1]] = value
        return typing.cast(dict[str, Any], values)


def keys(cls: type, section: Any, path: tuple[str | int, ...], base: Any) -> Iterator[Key]:
    kinds = typing.get_type_hints(section)
    for declared in fields(section):
        here = (*path, declared.name)
        yield Key(cls, here, kinds[declared.name], declared)
        below = base.get(declared.name) if isinstance(base, dict) else None
        yield from members(cls, kinds[declared.name], here, below)


def members(cls: type, kind: Any, path: tuple[str | int, ...], base: Any) -> Iterator[Key]:
    """The keys of the sections that a key holds."""
    if is_dataclass(kind):
        yield from keys(cls, kind, path, base or {})
    elif isinstance(base, list):
        yield from members(cls, typing.get_args(kind)[0], (*path, 0), base[0])
    elif isinstance(base, dict) and len(typing.get_args(kind)) == 2:
        (name,) = list(base)[:1]
        yield from members(cls, typing.get_args(kind)[1], (*path, name), base[name])


def kind_parts(kind: Any) -> Iterator[Any]:
    yield kind
    for argument in typing.get_args(kind):
        yield from kind_parts(argument)


KEYS = [key for cls, base in BASES.items() for key in keys(cls, cls, (), base)]
KEYS += [
    Key(TrainConfig, ("front_end", declared.name), typing.get_type_hints(FrontEnd)[declared.name], declared)
    for declared in fields(FrontEnd)
]
# Keys without sections of their own, each declaration once.
LEAVES = list(
    {
        id(key.declared): key for key in reversed(KEYS) if not any(is_dataclass(part) for part in kind_parts(key.kind))
    }.values()
)
EVERY_KEY = pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.config.__name__}:{key.name}")


def is_right(kind: Any, declared: Field[Any], value: Any) -> bool:
    """Whether a value is of the type and in the range that a key declares; written without the code under test."""
    origin, arguments, marks = typing.get_origin(kind), typing.get_args(kind), declared.metadata
    if NoneType in arguments:
        return value is None or is_right(arguments[0], declared, value)
    if origin is list:
        if not isinstance(value, list) or not all(is_right(arguments[0], declared, item) for item in value):
            return False
        if not marks.get("pair"):
            return True
        return len(value) == 2 and (None in value or value[0] <= value[1])
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            return False
        return arguments[1] is Any or all(is_right(arguments[1], declared, item) for item in value.values())
    if is_dataclass(kind):
        return isinstance(value, dict)
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is str:
        return isinstance(value, str | int) and is_right_string(declared, str(value))
    if not isinstance(value, int if kind is int else int | float):
        return False
    if kind is int and abs(value) >= 2**63:
        return False
    if kind is float and not (math.isfinite(value) or (marks.get("infinite") and not math.isnan(value))):
        return False
    limits = marks.get("limits", {})
    ends = {"at least": value.__ge__, "at most": value.__le__, "above": value.__gt__, "below": value.__lt__}
    return all(ends[name](end) is True for name, end in limits.items())


def is_right_string(declared: Field[Any], value: str) -> bool:
    marks = declared.metadata
    if not value and declared.default_factory is MISSING:
        return declared.default == ""
    if marks.get("one_of"):
        return value in marks["one_of"]
    if marks.get("form") and value:
        try:
            marks["form"](value)
        except ConfigError:
            return False
    return True


def parts(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from (name, *parts(item))
    elif isinstance(value, list):
        for item in value:
            yield from parts(item)


def check_refused(key: Key, value: Any) -> None:
    """By one line that begins with the full key and quotes the value, or what is wrong in it."""
    with pytest.raises(ConfigError) as caught:
        config.section(key.config, key.set_to(value), "")
    message = str(caught.value)
    assert message.startswith(key.name) and message[len(key.name)] in ":.[" and "\n" not in message, message
    said, _, why = message.partition(": ")
    assert any(repr(part)[:200] in why or repr(part)[:200].strip("'") in said for part in parts(value)), message


def wrong_values(kind: Any, declared: Field[Any]) -> Iterator[Any]:
    """Values of other types, out of range, and of the wrong length."""
    for value in (
        None,
        True,
        1,
        1.5,
        10**30,
        "!",
        "",
        [],
        [1],
        [[{}]],
        {},
        {"a": []},
        {1: 1},
        math.nan,
        math.inf,
        object(),
    ):
        if not is_right(kind, declared, value):
            yield value
    for name, end in declared.metadata.get("limits", {}).items():
        beyond = {"at least": -1, "above": 0, "at most": 1, "below": 0}[name]
        yield contained(kind, end + beyond)
        if kind is float:
            yield contained(kind, math.nextafter(end, -math.inf if beyond < 0 or name == "above" else math.inf))
    for value in ("nosuch", "\0", "a b") if declared.metadata.get("one_of") else ():
        yield contained(kind, value)
    if declared.metadata.get("pair"):
        for value in ([], [1.0], [1.0, 2.0, 3.0], [2.0, 1.0], [math.nan, 1.0], [True, 2.0]):
            yield {"confidence": value} if typing.get_origin(kind) is dict else value


def contained(kind: Any, value: Any) -> Any:
    """A value within the lists and mappings of an annotation."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return [contained(arguments[0], value)]
    return {"s": contained(arguments[1], value)} if origin is dict else value


def test_all_keys_are_found() -> None:
    page = (Path(__file__).parents[1] / "docs/config.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len({(key.declared.name, id(key.declared)) for key in KEYS}) >= len(rows) > 130


@pytest.mark.parametrize("key", {id(key.declared): key for key in reversed(KEYS)}.values(), ids=lambda key: key.name)
def test_a_wrong_value_is_one_error_of_the_key(key: Key) -> None:
    count = 0
    for value in wrong_values(key.kind, key.declared):
        check_refused(key, value)
        count += 1
    assert count >= 8


@EVERY_KEY
def test_the_full_key_is_named_wherever_the_section_is(key: Key) -> None:
    value = next(value for value in ([[{}]], "!", 1.5) if not is_right(key.kind, key.declared, value))
    with pytest.raises(ConfigError, match=f"^{re.escape(key.name)}[:.[]"):
        config.from_dict(key.config, key.set_to(value))
    if key.config is not StudyConfig and not any(isinstance(part, int) for part in key.path):
        with pytest.raises(ConfigError, match=f"^{re.escape(key.name)}[:.[]"):
            config.from_dict(key.config, BASES[key.config], [f"{key.name}={json.dumps(value)}"])


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"soft_los": {}}, "soft_los: there is no such key"),
        ({"seed": "one"}, "seed: must be a whole number, not 'one'"),
        ({"optimizer": {"momentum": 2}}, "optimizer.momentum: must be at least 0 and below 1, not 2"),
        ({"front_end": {"num_mels": 0}}, "front_end.num_mels: must be at least 4, not 0"),
        ({"front_end": {"preset": "x"}}, "front_end.preset: must be one of .*, not 'x'"),
        ({"model": {"args": {"dropout": math.nan}}}, "model.args.dropout: must not be nan"),
        ({"sequence": {"min_active": 5, "max_active": 4}}, "sequence.min_active: must be below max_active"),
        ({"keep_best": object()}, "keep_best: must be a value of YAML, not <object"),
        ({"seed": "${nothing}"}, "seed: .*'nothing'"),
    ],
)
def test_keys_of_a_training_within_a_study(train: dict[str, Any], said: str) -> None:
    key = next(key for key in KEYS if key.name == "variants.v.train")
    with pytest.raises(ConfigError, match=f"^variants.v.train.{said}") as caught:
        config.section(StudyConfig, key.set_to(train), "")
    assert "\n" not in str(caught.value)


# Without the marks of OmegaConf.
words = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="$?"), max_size=4)
numbers = st.integers() | st.floats() | st.integers(-3, 3) | st.floats(-1, 2)
junk = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.integers(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.sampled_from(LEAVES), st.data())
def test_any_value_is_kept_or_refused(key: Key, data: st.DataObject) -> None:
    value = data.draw(junk | of_kind(key.kind, key.declared))
    if not is_right(key.kind, key.declared, value):
        check_refused(key, value)
        return
    try:
        made = config.section(key.config, key.set_to(value), "")
    except ConfigError as error:  # with other keys
        assert re.match(r"\S+: ", str(error)) and "\n" not in str(error)
        return
    assert config.from_dict(key.config, OmegaConf.to_container(OmegaConf.create(config.to_yaml(made)))) == made


def of_kind(kind: Any, declared: Field[Any]) -> st.SearchStrategy[Any]:
    """Mostly right values."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if NoneType in arguments:
        return st.none() | of_kind(arguments[0], declared)
    if origin is list:
        return st.lists(of_kind(arguments[0], declared), max_size=3)
    if origin is dict:
        return st.dictionaries(words, of_kind(arguments[1], declared), max_size=2)
    choices = declared.metadata.get("one_of")
    if choices:
        return st.sampled_from(choices)
    return {bool: st.booleans(), int: st.integers(0, 20), float: st.floats(0, 1), str: words}.get(kind, junk)
