"""Imports go one way: a package imports from itself and from what stands to its left in `ORDER`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import asrkd
import asrkd_recipes

ROOTS = [Path(package.__file__).parent for package in (asrkd, asrkd_recipes)]

ORDER = (
    "errors",
    "extras",
    "text",
    "files",
    "checkpoint",
    "fingerprint",
    "cache",
    "config",
    "prefetch",
    "processes",
    "callables",
    "hub",
    "checkpoint",
    "corpus",
    "sequence",
    "graphs",
    "models",
    "targets",
    "acoustic",
    "teachers",
    "text_teachers",
    "store",
    "labeling",
    "streaming",
    "losses",
    "distributed",
    "decoding",
    "evaluation",
    "training",
    "alignment",
    "segmentation",
    "selection",
    "transcription",
    "export",
    "report",
    "asrkd_recipes",
    "cli",
    "__main__",
)

# Beyond the order: who must not know whom.
FORBIDDEN = {
    "targets": ("asrkd.models", "pyarrow"),
    "acoustic": ("asrkd.targets",),
    "store": ("asrkd.acoustic", "asrkd.models"),
    "streaming": ("asrkd.labeling", "asrkd.acoustic", "asrkd.models"),
    "losses": ("asrkd.streaming", "asrkd.store", "asrkd.labeling", "asrkd.acoustic", "asrkd.models", "asrkd.corpus"),
}

# Packages that may import nothing but these and the standard library.
ONLY = {"sequence": ("torch", "numpy", "k2", "kaldifst", "asrkd.cache", "asrkd.errors", "asrkd.text", "asrkd.sequence")}


def imports_of(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Dotted names that a module imports, also within functions and for types only; `module` is its own name.

    The front door alone (`asrkd`) may name for type checkers what it imports when it is used.
    """
    tree, found = ast.parse(source), []
    if module == "asrkd":
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            base = ".".join(parts[: len(parts) - node.level + is_package]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            # `from asrkd import config` imports asrkd.config.
            found += [f"{origin}.{alias.name}" for alias in node.names]
    return found


def room_of(module: str) -> str:
    """A package of the library, or the package next to it; empty for `asrkd` itself and what others wrote."""
    first, *rest = module.split(".")
    return first if first == "asrkd_recipes" else rest[0] if first == "asrkd" and rest else ""


def problems(module: str, imported: str) -> Iterator[str]:
    """Why `module` (asrkd.x.y) may not import `imported`."""
    package = room_of(module)
    if other := room_of(imported):
        if package and other in ORDER and ORDER.index(other) > ORDER.index(package):
            yield f"{module} imports {imported}, which is to its right"
        if not package and other in ORDER:
            yield f"{module} imports {imported}, so every import of asrkd would"
    if any(f"{imported}.".startswith(f"{one}.") for one in FORBIDDEN.get(package, ())):
        yield f"{module} imports {imported}, which {package} must not know"
    if package in ONLY and imported.split(".")[0] not in sys.stdlib_module_names:
        if not any(f"{imported}.".startswith(f"{one}.") for one in ONLY[package]):
            yield f"{module} imports {imported}, but may import only {', '.join(ONLY[package])}"


FILES = {path: root.parent for root in ROOTS for path in sorted(root.rglob("*.py"))}


def name_of(path: Path) -> str:
    parts = path.relative_to(FILES[path]).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_package_has_its_place() -> None:
    packages = {room_of(name_of(path)) for path in FILES if name_of(path) != "asrkd"}
    assert packages <= set(ORDER), f"give {sorted(packages - set(ORDER))} a place in ORDER"


@pytest.mark.slow
def test_imports_go_one_way() -> None:
    found = []
    for path in FILES:
        module, source = name_of(path), path.read_text(encoding="utf-8")
        for imported in imports_of(source, module, is_package=path.name == "__init__.py"):
            found += problems(module, imported)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("asrkd.targets.codecs", "from asrkd.errors import ConfigError", 0),
        ("asrkd.targets.codecs", "from asrkd.store import Store", 1),
        ("asrkd.targets.codecs", "import pyarrow.parquet as pq", 1),
        ("asrkd.targets.codecs", "from .. import store", 1),
        ("asrkd.targets.codecs", "from ..store.reader import Store", 1),
        ("asrkd.targets.codecs", "from .soft_targets import SoftTargets", 0),
        ("asrkd.store.reader", "def f():\n    from asrkd import acoustic", 1),
        ("asrkd.store.reader", "from asrkd.labeling import plan", 1),
        ("asrkd.labeling.plan", "from asrkd.store import manifest", 0),
        ("asrkd.acoustic.load", "from asrkd.targets.codecs import parse_codec", 1),
        ("asrkd.losses.soft", "from asrkd.corpus.lexicon import Lexicon", 1),
        ("asrkd.models.lstm", "from asrkd.acoustic import AcousticModel", 1),
        ("asrkd.streaming.loader", "import asrkd.training.trainer", 1),
        ("asrkd.sequence.smbr", "import math\nimport torch.nn\nfrom asrkd.errors import AsrkdError", 0),
        ("asrkd.sequence.smbr", "from asrkd.corpus.lexicon import Lexicon", 1),
        ("asrkd.sequence.smbr", "import torchaudio", 1),
        ("asrkd", "from asrkd.cli import main", 1),
        ("asrkd", "import asrkd_recipes", 1),
        ("asrkd", "if TYPE_CHECKING:\n    from asrkd.store import Store", 0),
        ("asrkd.training.trainer", "from asrkd_recipes.study.run import Study", 1),
        ("asrkd.cli.demo", "def f():\n    from asrkd_recipes.demo.run import run_demo", 0),
        ("asrkd_recipes.study.run", "from asrkd.training.trainer import Trainer", 0),
        ("asrkd_recipes.study.run", "from asrkd.cli.progress import ProgressBar", 1),
    ],
)
def test_the_check_itself(module: str, source: str, wrong: int) -> None:
    assert len([problem for name in imports_of(source, module) for problem in problems(module, name)]) == wrong


def test_no_reading_of_tables_by_threads_that_outlive_python() -> None:
    """pyarrow's `read_table` of bytes in memory leaves threads that hold them; where Python ends first, the process aborts (one in four runs of `label status`)."""
    for path in sorted(path for root in ROOTS for path in root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert name not in ("pq.read_table", "parquet.read_table", "pyarrow.parquet.read_table"), (
                f"{path}:{node.lineno}"
            )
