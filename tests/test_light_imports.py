"""What must not be imported: seconds and memory of every process, for packages that most of them do not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from asrkd.cli.lazy import LazyCommand
from asrkd.errors import DependencyError

# Packages that take long, or much memory.
HEAVY = (
    "torch",
    "torchaudio",
    "lhotse",
    "matplotlib",
    "transformers",
    "scipy",
    "k2",
    "ray",
    "pandas",
    "omegaconf",
    "jinja2",
    "pyarrow",
    "numpy",
)
FOR_LOADING = ("torch", "pyarrow", "numpy")
COMMAND_LINE = (
    "import sys; sys.argv = {argv}; from asrkd.__main__ import main\ntry:\n main()\nexcept SystemExit: pass\n"
)


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("import asrkd", ()),
        (COMMAND_LINE.format(argv=["asrkd", "--help"]), ()),
        (COMMAND_LINE.format(argv=["asrkd", "--version"]), ()),
        pytest.param("import asrkd.streaming", FOR_LOADING, marks=pytest.mark.slow),
        pytest.param("from asrkd import Loader, Source, Store", FOR_LOADING, marks=pytest.mark.slow),
    ],
    ids=["asrkd", "--help", "--version", "streaming", "front door"],
)
def test_only_what_is_needed_is_imported(code: str, needed: tuple[str, ...]) -> None:
    script = f"{code}\nprint('imported', *(name for name in {HEAVY} if name in __import__('sys').modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = done.stdout.splitlines()[-1].split()[1:]
    assert set(imported) == set(needed), f"{sorted(set(imported) - set(needed))} are imported too early"


@pytest.mark.slow
def test_no_command_needs_matplotlib_until_it_draws() -> None:
    script = "import sys; from asrkd.cli import cli; [command.loaded for command in cli.commands.values()]; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_library_that_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asrkd.cli.segment", None)
    command = LazyCommand("segment", "asrkd.cli.segment", "segment_command", "")
    with pytest.raises(
        DependencyError, match=r"cannot be loaded \(import of asrkd.cli.segment halted.*install asrkd again"
    ):
        command.make_context("segment", [])
