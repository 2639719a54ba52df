"""Writes docs/api.md: every public name (`asrkd.__all__`), from signatures and docstrings.

    python tools/api_page.py

Run it after a public docstring or signature has changed; tests/test_front_door.py compares.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asrkd

PAGE = Path(__file__).parents[1] / "docs/api.md"
_BEGINNING = """# API

What `from asrkd import ...` offers, written by `python tools/api_page.py` from signatures and docstrings. These names are public: one that is to change keeps working,
with a `DeprecationWarning`, for one minor version. Modules and names that are not on this page may change in any version. A name is imported when it is first used,
so `import asrkd` costs nothing.
"""


def signature(thing: Any) -> str:
    """How it is called, as its source says: defaults as they are written, types left to the docstring and the editor."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    if isinstance(tree, ast.ClassDef):
        methods = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        if "__init__" in methods:
            return _call(methods["__init__"], skip=1)
        fields = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
        return f"({', '.join(_field(node) for node in fields)})" if _is_dataclass(tree) else ""
    assert isinstance(tree, ast.FunctionDef)
    return _call(tree)


def _is_dataclass(tree: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in tree.decorator_list)


def _field(node: ast.AnnAssign) -> str:
    return ast.unparse(node.target) + ("" if node.value is None else "=...")


def _call(function: ast.FunctionDef, skip: int = 0) -> str:
    arguments = function.args
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    arguments.args = arguments.args[skip:]
    return f"({ast.unparse(arguments)})"


def members(thing: type) -> Iterator[tuple[str, str, str]]:
    """(name, how it is called, docstring) of the public methods and properties that a class itself defines and says something about."""
    for name, member in vars(thing).items():
        inside = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if name.startswith("_") or not (inspect.isfunction(inside) or isinstance(inside, property)):
            continue
        function = inside.fget if isinstance(inside, property) else inside
        if function is None or not function.__doc__ or function.__module__.split(".")[0] != "asrkd":
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        assert isinstance(tree, ast.FunctionDef)
        call = "" if isinstance(inside, property) else _call(tree, skip=not isinstance(member, staticmethod))
        yield name, call, inspect.getdoc(function) or ""


def page() -> str:
    """The whole page."""
    parts = [_BEGINNING]
    for name in sorted((name for name in asrkd.__all__ if name != "__version__"), key=str.lower):
        thing = getattr(asrkd, name)
        parts.append(f"## {name}\n\n`from asrkd import {name}` ({thing.__module__})\n")
        parts.append(f"```\n{name}{signature(thing)}\n```\n\n```text\n{inspect.getdoc(thing)}\n```\n")
        if inspect.isclass(thing):
            for member, call, said in members(thing):
                parts.append(f"`.{member}{call}`\n\n```text\n{said}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
