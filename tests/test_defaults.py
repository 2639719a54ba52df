"""The default of a config's key, or of an option of a command, is written in one place; what repeats it refers to that."""

from __future__ import annotations

import ast
import dataclasses
import typing
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asrkd
import asrkd_recipes
from asrkd.acoustic.lattice import LatticeSettings
from asrkd.corpus.front_end import FrontEnd
from asrkd.training.config import TrainConfig
from asrkd_recipes.study.config import StudyConfig

FILES = [path for package in (asrkd, asrkd_recipes) for path in sorted(Path(package.__file__).parent.rglob("*.py"))]
# That nothing is done, given or multiplied, which is not a choice that could be made otherwise elsewhere.
NEUTRAL: tuple[Any, ...] = (None, False, True, 0, 1, "", (), [], {}, "cpu", "float32")


def defaults(tree: ast.AST) -> Iterator[tuple[str, Any, int, bool]]:
    """(name, value, line, of an option) of the defaults that are written as literals: of arguments, fields and options."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            positional = [*node.args.posonlyargs, *node.args.args]
            pairs: list[tuple[ast.arg, ast.expr | None]] = list(
                zip(reversed(positional), reversed(node.args.defaults), strict=False)
            )
            pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            for argument, value in pairs:
                yield from literal(argument.arg, value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "option":
            names = [part.value for part in node.args if isinstance(part, ast.Constant)]
            for keyword in node.keywords:
                if keyword.arg == "default" and names:
                    named = next((name for name in names if not str(name).startswith("-")), None)
                    name = named or max(names, key=len).lstrip("-").replace("-", "_")
                    yield from literal(name, keyword.value, option=True)
        elif isinstance(node, ast.ClassDef):
            for declared in node.body:
                if isinstance(declared, ast.AnnAssign) and isinstance(declared.target, ast.Name):
                    value = declared.value
                    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "setting":
                        value = value.args[0] if value.args else None
                    yield from literal(declared.target.id, value)


def literal(name: str, node: ast.expr | None, *, option: bool = False) -> Iterator[tuple[str, Any, int, bool]]:
    if node is None:
        return
    try:
        yield name, ast.literal_eval(node), node.lineno, option
    except ValueError:
        return


def keys(config: type, seen: set[type]) -> Iterator[str]:
    """The names of all keys of a config."""
    if config in seen:
        return
    seen.add(config)
    kinds = typing.get_type_hints(config)
    for declared in dataclasses.fields(config):
        yield declared.name
        parts = [kinds[declared.name]]
        while parts:
            kind = parts.pop()
            parts += typing.get_args(kind)
            if dataclasses.is_dataclass(kind):
                yield from keys(typing.cast(type, kind), seen)


def repeated(sources: dict[str, str], names: set[str]) -> dict[str, list[str]]:
    """Defaults that are written more than once, with the places, of the keys of configs and of options."""
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    options = set(names)
    for place, source in sources.items():
        for name, value, line, option in defaults(ast.parse(source)):
            if option:
                options.add(name)
            if value not in NEUTRAL:
                places[name, repr(value)].append(f"{place}:{line}")
    return {f"{name} = {value}": found for (name, value), found in places.items() if name in options and len(found) > 1}


def test_a_default_is_written_once() -> None:
    seen: set[type] = set()
    names = {name for config in (TrainConfig, StudyConfig, FrontEnd, LatticeSettings) for name in keys(config, seen)}
    assert len(names) > 100
    assert repeated({str(path): path.read_text(encoding="utf-8") for path in FILES}, names) == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class A:\n    beam: float = setting(16.0)\ndef f(*, beam=16.0): ...", ["beam = 16.0"]),
        ("class A:\n    beam: float = setting(BEAM)\ndef f(*, beam=16.0): ...", []),
        ("class A:\n    beam: float = setting(8.0)\ndef f(*, beam=16.0): ...", []),
        ("class A:\n    weight: float = setting(1.0)\ndef f(*, weight=1.0): ...", []),
        ("def f(a, width=7): ...\ndef g(width=7): ...", []),
        ("@click.option('-w', '--width', default=7)\ndef f(width): ...\ndef g(a, width=7): ...", ["width = 7"]),
        ("@click.option('--lexicon-width', 'width', default=7)\ndef f(width): ...\ndef g(width=7): ...", ["width = 7"]),
    ],
)
def test_the_search_itself(source: str, found: list[str]) -> None:
    assert list(repeated({"a.py": source}, {"beam", "weight"})) == found
