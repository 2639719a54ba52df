"""`from asrkd import ...`: the names are there, imported when used, and said on the page of the API."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import asrkd

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("api_page", ROOT / "tools/api_page.py")
assert spec and spec.loader
api_page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(api_page)


@pytest.mark.parametrize("name", [name for name in asrkd.__all__ if name != "__version__"])
def test_a_public_name_has_its_object_and_docstring(name: str) -> None:
    thing = getattr(asrkd, name)
    assert thing.__name__ == name
    assert inspect.getdoc(thing) and not inspect.getdoc(thing).startswith(f"{name}(")
    assert name in dir(asrkd)


def test_type_checkers_see_the_same_names() -> None:
    (block,) = (node for node in ast.parse(Path(asrkd.__file__).read_text()).body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == asrkd._MODULE_OF


def test_the_import_alone_brings_nothing() -> None:
    code = "import sys; before = set(sys.modules); import asrkd; print(sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(run.stdout))
    assert "asrkd" in loaded and loaded <= {"asrkd"} | set(sys.stdlib_module_names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Teacher'"):
        asrkd.Teacher  # noqa: B018


def test_the_page_is_as_it_would_be_written_now() -> None:
    assert api_page.PAGE.read_text(encoding="utf-8") == api_page.page(), "run python tools/api_page.py"
