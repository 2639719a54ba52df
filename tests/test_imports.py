"""Imports go one way: a package imports only from those to its left."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import asrkd

ROOT = Path(asrkd.__file__).parent
ORDER = [
    "errors",
    "fingerprint",
    "config",
    "corpus",
    "models",
    "targets",
    "teachers",
    "store",
    "labeling",
    "streaming",
    "losses",
    "training",
    "sequence",
    "decoding",
    "evaluation",
    "report",
    "study",
    "demo",
    "cli",
]
# Beyond the order: who must not know whom.
FORBIDDEN = {
    "targets": {"models", "pyarrow"},
    "teachers": {"targets"},
    "store": {"teachers", "models"},
    "streaming": {"labeling", "teachers", "models"},
    "losses": {"streaming", "store", "labeling", "teachers", "models", "corpus"},
}


def imports() -> Iterator[tuple[Path, str, str]]:
    """(file, its package, imported name): `asrkd.x` as `x`, others by their first part."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [f"asrkd.{a.name}" for a in node.names] if node.module == "asrkd" else [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                first, _, rest = name.partition(".")
                yield path, parts[0], (f"asrkd.{rest.split('.')[0]}" if first == "asrkd" and rest else first)


def test_every_package_has_a_place_in_the_order() -> None:
    found = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    found |= {p.stem for p in ROOT.glob("*.py")} - {"__init__"}
    assert found <= set(ORDER)


def test_imports_go_one_way() -> None:
    wrong = []
    for path, package, name in imports():
        inner = name.removeprefix("asrkd.") if name.startswith("asrkd.") else None
        if package != "__init__" and inner in ORDER and ORDER.index(inner) > ORDER.index(package):
            wrong.append(f"{path.relative_to(ROOT)} imports asrkd.{inner}")
        if (inner or name) in FORBIDDEN.get(package, ()):
            wrong.append(f"{path.relative_to(ROOT)} imports {inner or name}")
    assert not wrong


def test_sequence_stands_alone() -> None:
    allowed = {"__future__", "torch", "numpy", "k2", "asrkd.errors", "asrkd.sequence"}
    allowed |= {"collections", "dataclasses", "typing", "math", "itertools"}
    assert {name for _, package, name in imports() if package == "sequence"} <= allowed
