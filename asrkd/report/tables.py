"""Tables of strings as HTML, plain text and Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from asrkd.errors import ConfigError

_LONG = 48
_NUMBER = re.compile(r"[+\-−±]?[\d.,]+.*|[-–—]?")


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Raises:
        ConfigError: no columns, or a row of another width.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        _check(self.columns, self.rows)


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> Markup:
    """A `<table>`; everything is escaped, columns of numbers are aligned to the right."""
    styles = [Markup(' class="number"') if right else Markup("") for right in _check(columns, rows)]
    head = _cells("th", columns, styles)
    body = Markup("\n").join(Markup("<tr>{}</tr>").format(_cells("td", row, styles)) for row in rows)
    title = Markup("<caption>{}</caption>").format(caption) if caption else Markup("")
    return Markup("<table>{}\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody></table>").format(title, head, body)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart under a rule, for a terminal; ends without a line break."""
    right = _check(columns, rows)
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    rule = ["-" * width for width in widths]
    return "\n".join("  ".join(_justify(row, widths, right)).rstrip() for row in (columns, rule, *rows))


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub-flavored table; pipes in cells are escaped, line breaks become spaces; ends without a line break."""
    right = _check(columns, rows)
    clean = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    widths = [max(3, *(len(row[i]) for row in clean)) for i in range(len(columns))]
    rule = ["-" * (width - 1) + (":" if r else "-") for width, r in zip(widths, right, strict=True)]
    return "\n".join(f"| {' | '.join(_justify(row, widths, right))} |" for row in (clean[0], rule, *clean[1:]))


def _check(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[bool]:
    """Whether each column holds numbers only."""
    if not columns:
        raise ConfigError("a table without columns shows nothing; name at least one")
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise ConfigError(
                f"row {number} of a table has {len(row)} cells, but there are {len(columns)} columns "
                f"({', '.join(columns)}); give one cell for each"
            )
    return [bool(rows) and all(_NUMBER.fullmatch(row[i].strip()) for row in rows) for i in range(len(columns))]


def _cells(tag: str, cells: Sequence[str], styles: Sequence[Markup]) -> Markup:
    pairs = zip(cells, styles, strict=True)
    return Markup("").join(Markup(f"<{tag}{style or _long(cell)}>{escape(cell)}</{tag}>") for cell, style in pairs)


def _long(cell: str) -> Markup:
    """A cell of sentences is broken into lines."""
    return Markup(' class="long"') if len(cell) > _LONG else Markup("")


def _justify(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    return [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
