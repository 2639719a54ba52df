"""What is optional: one table, that of pyproject.toml; whoever needs a part that is not there says its name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import make_cuts, make_teacher

from asrkd.errors import DependencyError
from asrkd.extras import EXTRAS, broken_library, extra_of, import_optional

ROOT = Path(__file__).parents[1]
# Without what only reports and trainings need.
WITHOUT = "import sys\nfor name in ('matplotlib', 'jinja2', 'tensorboard'): sys.modules[name] = None\nsys.argv[0] = 'asrkd'\nfrom asrkd.__main__ import main; main()"


def declared(name: str) -> set[str]:
    """The packages of an extra in pyproject.toml."""
    (line,) = re.findall(rf"^{name} = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.M)
    return {
        re.split(r"[<>=!]", requirement)[0]
        for requirement in re.findall(r'"([^"]+)"', line)
        if not requirement.startswith("asrkd[")
    }


@pytest.mark.parametrize("name", EXTRAS)
def test_the_table_is_that_of_pyproject(name: str) -> None:
    assert set(EXTRAS[name].packages) == declared(name)


def test_every_extra_is_in_the_table() -> None:
    section = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[project")[0]
    assert {*re.findall(r"^(\w+) = ", section, re.M)} - {"test", "dev", "site"} == set(EXTRAS)


def test_a_missing_part_names_its_extra() -> None:
    assert extra_of("matplotlib.figure") == "report" and extra_of("torch") == ""
    error = ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
    assert "pip install 'asrkd[train]'" in str(broken_library(error))
    assert "install asrkd again" in str(broken_library(ModuleNotFoundError("No module named 'torch'", name="torch")))


@pytest.mark.parametrize(("module", "extra"), [(m, extra_of(m)) for e in EXTRAS.values() for m in e.packages.values()])
def test_an_optional_import_names_its_extra(module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError, match=rf"needs? {module}: pip install 'asrkd\[{extra}\]'"):
        import_optional(module)


@pytest.mark.slow
def test_labeling_needs_neither_matplotlib_nor_tensorboard(tmp_path: Path) -> None:
    cuts, teacher = make_cuts(tmp_path, "a", 3), make_teacher(tmp_path / "teacher.pt")
    store = tmp_path / "store"

    def ran(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", WITHOUT, *map(str, arguments)], capture_output=True, text=True)

    for command in (["label", "plan", cuts, store, "--teacher", teacher], ["label", "run", store, "--readers", 0]):
        done = ran(*command)
        assert done.returncode == 0, done.stderr
    done = ran("align", store, tmp_path / "out", "--lexicon", tmp_path / "lexicon.txt", "--report", tmp_path / "r.html")
    assert done.returncode == 1 and done.stderr.strip().endswith("jinja2: pip install 'asrkd[report]'")
