"""One name for one thing: no two public classes, functions or types of the library have the same name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import asrkd
import asrkd_recipes

ROOTS = [Path(package.__file__).parent for package in (asrkd, asrkd_recipes)]

# What may be there twice, and why.
ALLOWED = {
    "read": "asrkd.text.read and asrkd.checkpoint.read are called by the name of their module, which says what is read",
}


def public_names(source: str) -> Iterator[str]:
    """What a module defines at its top: classes, functions, and types by assignment (in the case of classes)."""
    for node in ast.parse(source).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [node.name]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            # A type is written in the case of classes; a type variable is of its module.
            is_variable = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "TypeVar"
            named = [target.id for target in targets if isinstance(target, ast.Name) and not is_variable]
            names = [name for name in named if name[0].isupper() and not name.isupper()]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def test_no_public_name_twice() -> None:
    places = defaultdict(list)
    for root in ROOTS:
        for path in sorted(root.rglob("*.py")):
            for name in public_names(path.read_text(encoding="utf-8")):
                places[name].append(str(path.relative_to(root.parent)))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert twice.keys() <= ALLOWED.keys(), "\n".join(f"{name}: {', '.join(found)}" for name, found in twice.items())
    assert ALLOWED.keys() <= twice.keys(), "an exception that is not needed"


def test_the_check_itself() -> None:
    source = "A = int\nB: type = int\nLIMIT = 1\nT = TypeVar('T')\n_C = int\nclass D: ...\ndef e(): ...\ndef _f(): ...\nx = 1\n"
    assert list(public_names(source)) == ["D", "e"]
    assert list(public_names("Place = tuple[int, int]\nclass D:\n    def e(self): ...\n")) == ["Place", "D"]
