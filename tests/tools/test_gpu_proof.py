"""The proof on a GPU, tried without one: its sections keep within their time, and what fails is a row."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TOOL = Path(__file__).parents[2] / "tools/gpu/prove.py"
spec = importlib.util.spec_from_file_location("prove", TOOL)
assert spec and spec.loader
prove = importlib.util.module_from_spec(spec)
sys.modules["prove"] = prove
spec.loader.exec_module(prove)


def test_all_of_it_takes_at_most_eight_minutes() -> None:
    assert sum(section.seconds for section in prove.SECTIONS) <= 8 * 60


@pytest.mark.slow
def test_a_section_is_rows_from_a_process_of_its_own() -> None:
    (section,) = (section for section in prove.SECTIONS if section.name == "codecs")
    rows = prove.measure(section, "cpu", True)
    assert [row.fine for row in rows] == [True, True], rows
    assert "chosen on the device" in rows[0].measured and "torch.topk(20)" in rows[0].measured
    page = prove.table(prove.card("cpu"), rows)
    assert page.startswith("# CPU (") and page.count("\n| `") == 2


@pytest.mark.slow
def test_what_fails_or_hangs_is_a_row() -> None:
    lines, fine = prove.ran(["-c", "import time; time.sleep(60)"], 1)
    assert not fine and lines == ["not done within 1 s"]
    [row] = prove.of_command("x", ["-c", "raise SystemExit('no such card')"], 60, bool)
    assert not row.fine and "**FAILED** no such card" in prove.table("t", [row])
    [row] = prove.of_command("x", ["-c", "print('a | b')"], 60, lambda line: "c" in line)
    assert not row.fine


@pytest.mark.slow
@pytest.mark.skipif(
    torch.cuda.is_available(), reason="there is a GPU here, on which sh tools/gpu/prove.sh takes minutes"
)
def test_without_a_gpu_one_line_says_so() -> None:
    done = subprocess.run(["sh", str(TOOL.with_name("prove.sh"))], capture_output=True, text=True)
    assert done.returncode == 1 and "torch sees no GPU here; --device cpu --quick" in done.stderr
