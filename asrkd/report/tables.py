"""Tables of strings as HTML, plain text and Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from asrkd.errors import ConfigError

_LONG = 48
# Characters that a phone shows in a line of a table.
_PHONE = 44
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
    """A `<table>`; everything is escaped, columns of numbers are aligned to the right.

    Each cell also names its column, for screens that are too narrow for the table: one of class `wide` becomes a list there.
    """
    classes = ["number" if right else "" for right in _check(columns, rows)]
    head = Markup("").join(_cell("th", _unbroken(name), own) for name, own in zip(columns, classes, strict=True))
    body = Markup("\n").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                _cell("td", cell, own or ("long" if len(cell) > _LONG else ""), label)
                for cell, own, label in zip(row, classes, columns, strict=True)
            )
        )
        for row in rows
    )
    title = Markup("<caption>{}</caption>").format(caption) if caption else Markup("")
    wide = Markup(' class="wide"') if _narrowest(columns, rows) > _PHONE else Markup("")
    return Markup("<table{}>{}\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody></table>").format(
        wide, title, head, body
    )


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


def _cell(tag: str, text: str, name: str, label: str = "") -> Markup:
    attributes = [("class", name)] if name else []
    attributes += [("data-label", label)] if label else []
    said = Markup("").join(Markup(' {}="{}"').format(*pair) for pair in attributes)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), said, text)


def _unbroken(name: str) -> str:
    """The name of a column that may be broken into lines, but not before its unit."""
    return name.replace(" %", "\u00a0%").replace("[95", "\u2060[95")


def _narrowest(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Characters in a line of a table that is broken into lines wherever it may be: heads and texts between words, numbers nowhere. Columns are two apart."""
    right = _check(columns, rows)
    widths = []
    for number, name in enumerate(columns):
        parts = [
            *name.split(),
            *(part for row in rows for part in ([row[number]] if right[number] else row[number].split())),
        ]
        widths.append(max(map(len, parts), default=0))
    return sum(widths) + 2 * (len(widths) - 1)


def _justify(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    return [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
