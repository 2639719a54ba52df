"""`docs/inputs.md` says what becomes of each kind of input; here each row of its table is tried.

An example makes the input and returns what became of it. A row without an example, or an example without a row, fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from inputs_examples import EXAMPLES

PAGE = Path(__file__).parents[1] / "docs/inputs.md"
OUTCOMES = ("accepted", "normalised", "quarantined", "refused")


def rows() -> dict[str, str]:
    """Outcome by what comes in, as the page's table has them."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[2] in OUTCOMES:
            assert cells[1] not in found, f"{cells[1]!r} has two rows"
            found[cells[1]] = cells[2]
    return found


def test_every_row_has_an_example() -> None:
    assert sorted(rows()) == sorted(EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("what", sorted(EXAMPLES))
def test_the_page_is_right(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example: Callable[[Path], str] = EXAMPLES[what]
    assert example(tmp_path) == rows()[what]
