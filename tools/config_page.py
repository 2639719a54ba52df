"""Writes docs/config.md: every key of the configs, from the dataclasses that declare them.

    python tools/config_page.py

Run it after a key has changed; tests/tools/test_config_page.py compares.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asrkd.acoustic.ensemble import EnsembleSettings
from asrkd.acoustic.lattice import LatticeSettings
from asrkd.corpus.front_end import FrontEnd
from asrkd.training.config import TrainConfig
from asrkd_recipes.study.config import StudyConfig

PAGE = Path(__file__).parents[1] / "docs/config.md"
CONFIGS: dict[str, type] = {
    "A training: `asrkd train CONFIG`": TrainConfig,
    "A front end": FrontEnd,
    "An ensemble: `ensemble:FILE`": EnsembleSettings,
    "A lattice teacher: `lattice:FILE`": LatticeSettings,
    "A study: `recipes/*/*.yaml`": StudyConfig,
}
_BEGINNING = """# Config

Every key, written by `python tools/config_page.py` from the dataclasses that declare them. A wrong value is refused with an error that begins with its full key.
Keys of a section are nested in YAML (`optimizer: {learning_rate: 0.002}`), or given after the file, as `optimizer.learning_rate=0.002`. A key without a default is required.
"""


def sentences(section: type) -> dict[str, str]:
    """The docstring below each field of a dataclass."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for declared, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(declared, ast.AnnAssign) and isinstance(declared.target, ast.Name):
            if (
                isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[declared.target.id] = " ".join(below.value.value.split())
    return found


def sections(config: type) -> Iterator[type]:
    """A dataclass and those that its fields hold, each once, in order."""
    seen: list[type] = []

    def visit(section: type) -> None:
        if section in seen:
            return
        seen.append(section)
        kinds = typing.get_type_hints(section)
        for declared in dataclasses.fields(section):
            for kind in _parts(kinds[declared.name]):
                if dataclasses.is_dataclass(kind):
                    visit(typing.cast(type, kind))

    visit(config)
    yield from seen


def _parts(kind: Any) -> Iterator[Any]:
    yield kind
    for argument in typing.get_args(kind):
        yield from _parts(argument)


def _type(kind: Any) -> str:
    if isinstance(kind, type) and not typing.get_args(kind):
        return f"[{kind.__name__}](#{kind.__name__.lower()})" if dataclasses.is_dataclass(kind) else kind.__name__
    parts = [_type(part) for part in typing.get_args(kind)]
    origin = typing.get_origin(kind)
    if origin is list:
        return f"list of {parts[0]}"
    if origin is dict:
        return f"{parts[0]} to {parts[1]}"
    return " or ".join("null" if part == "NoneType" else part for part in parts) or "any"


def _default(declared: dataclasses.Field[Any]) -> str:
    if declared.default is not dataclasses.MISSING:
        value = declared.default
    elif declared.default_factory is not dataclasses.MISSING:
        value = declared.default_factory
        if dataclasses.is_dataclass(value):
            return ""
        value = declared.default_factory()
    else:
        return "required"
    shown = (
        {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
    )
    return f"`{shown or repr(value)}`"


def table(section: type) -> str:
    """The keys of a dataclass, a row each."""
    kinds, said = typing.get_type_hints(section), sentences(section)
    rows = [
        f"| `{one.name}` | {_type(kinds[one.name])} | {_default(one)} | {said[one.name]} |".replace("  ", " ")
        for one in dataclasses.fields(section)
    ]
    return "\n".join(["| key | type | default | |", "| --- | --- | --- | --- |", *rows])


def page() -> str:
    """The text of docs/config.md."""
    parts, seen = [_BEGINNING], set()
    for title, config in CONFIGS.items():
        parts.append(f"## {title}\n")
        for section in sections(config):
            if section in seen:
                continue
            seen.add(section)
            about = (inspect.getdoc(section) or "").partition("\n\n")[0].replace("\n", " ")
            parts.append(f"### {section.__name__}\n\n{about}\n\n{table(section)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
