"""The rows of a table as text: the one reader of `.tsv` and `.csv`.

A `.tsv` is what Common Voice writes: fields are separated by tabs, and a quotation mark is text. A `.csv` is RFC 4180: fields
are separated by commas, and one in quotation marks may hold commas, line ends and doubled quotation marks. Both are UTF-8 with
a header. A row that does not fit the header is an error, because its fields cannot be distinguished.
"""

from __future__ import annotations

import csv
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from asrkd import text
from asrkd.errors import CorpusError

_log = logging.getLogger(__name__)
# What a writer that quotes makes of a field, such as pandas: `"he said ""hi"""`.
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
# What csv says, in words for its users.
_REASONS = {
    "unexpected end of data": "a quotation mark is not closed",
    "expected after": "text follows a closing quotation mark",
    "new-line character": "a carriage return is outside quotation marks",
}
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


def table_rows(path: Path, columns: Collection[str], needs: str = "audio") -> Iterator[tuple[int, dict[str, str]]]:
    """(number of the line, value by column) of each row; rows without a single value are passed over.

    Column names are compared without regard to case and to blanks around them. Empty fields
    after the last column, which spreadsheets write, are left out.

    Args:
        path: the table; `.csv` is RFC 4180, anything else separated by tabs.
        columns: names that the header may have.
        needs: the one that it must have.

    Raises:
        CorpusError: no header, an unknown column, a column twice, a row that does not fit the header, an unclosed quotation
            mark, NUL bytes, or a file that is not UTF-8; the message names the line.
    """
    what, separator = f"table {str(path)!r}", "," if path.suffix.lower() == ".csv" else "\t"
    lines = _without_nul(text.stream(path, what="table", ends=separator == ","), what)
    rows = _quoted_rows(lines, what) if separator == "," else ((number, line.split("\t")) for number, line in lines)
    filled = (row for row in rows if any(field.strip() for field in row[1]))
    _, names = next(filled, (0, []))
    names = _checked(names, separator, columns, needs, what)
    quoted = 0
    for number, fields in filled:
        while len(fields) > len(names) and not fields[-1].strip():
            fields.pop()
        if len(fields) != len(names):
            raise CorpusError(
                f"{what} line {number} has {len(fields)} fields, but the header has {len(names)} ({', '.join(names)}), so it is "
                f"not clear which is which; write every row with {len(names) - 1} {_SEPARATORS[separator]}"
                + (", and put quotation marks around a field that holds commas" if separator == "," else "")
            )
        quoted += separator == "\t" and any(map(_QUOTED.fullmatch, fields))
        yield number, dict(zip(names, fields, strict=True))
    if quoted:
        _log.warning(
            "%s: in %d rows a field begins and ends with a quotation mark, which is kept as text, because a table of tabs has no "
            "quoting; if a program quoted them, save the table as .csv",
            what,
            quoted,
        )


def _without_nul(lines: Iterable[tuple[int, str]], what: str) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        if "\0" in line:
            raise CorpusError(f"{what} line {number} holds a NUL byte; if it is UTF-16, convert it (iconv -t UTF-8)")
        yield number, line


def _quoted_rows(lines: Iterable[tuple[int, str]], what: str) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, fields) of each row of RFC 4180."""
    last = 0

    def counted() -> Iterator[str]:
        nonlocal last
        for number, line in lines:
            last = number
            yield line

    # The limit is that of the whole process: it must not depend on who imported csv before.
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(counted(), strict=True)
    while True:
        first = last + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            where = f"line {first}" if first == last else f"the row of lines {first} to {last}"
            reason = next((said for sign, said in _REASONS.items() if sign in str(error)), str(error))
            raise CorpusError(
                f"{what}, {where}: {reason}; in a .csv a field in quotation marks ends with one, and doubles those within it. "
                "A table of tabs without quoting is a .tsv"
            ) from None
        yield first, fields


def _checked(names: list[str], separator: str, columns: Collection[str], needs: str, what: str) -> list[str]:
    """The columns of a header."""
    cleaned = [name.strip().lower() for name in names]
    while cleaned and not cleaned[-1]:
        cleaned.pop()
    if not cleaned:
        raise CorpusError(f"{what} is empty; its first line names the columns: {', '.join(columns)}")
    unknown = [name for name, clean in zip(names, cleaned, strict=False) if clean not in columns]
    if needs in cleaned and not unknown:
        twice = [name for name, count in Counter(cleaned).items() if count > 1]
        if twice:
            raise CorpusError(f"{what} has the column {twice[0]!r} more than once; name each column once")
        return cleaned
    others = [name for sign, name in _SEPARATORS.items() if sign != separator and sign in "".join(names)]
    hint = f". It seems to be separated by {others[0]}" if others else ""
    if not others and any(clean.strip('"') in columns and '"' in clean for clean in cleaned):
        hint = ". Quotation marks are text there"
    kinds = "a .csv is separated by commas, a .tsv by tabs and has no quoting"
    raise CorpusError(
        f"{what} has the columns {names}; it needs {needs!r} and may have {', '.join(name for name in columns if name != needs)}"
        + (f"{hint}: {kinds}" if hint else "")
    )
