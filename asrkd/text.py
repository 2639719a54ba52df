"""Text in: the one reader of every text file that users or asrkd itself write.

UTF-8 whatever the locale says, a byte order mark is dropped, and `\\n` and `\\r\\n` are the only line ends: U+2028,
U+2029, U+0085, a form feed and whatever else Python's `str.splitlines` would split at are text. Words are separated
by blanks, tabs and line ends alone, as in Kaldi, so that a no-break space is part of a word.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asrkd.errors import AsrkdError, CorpusError

_SEPARATORS = re.compile(r"[ \t\r\n]+")


def decode(data: bytes, *, what: str, error: type[AsrkdError] = CorpusError) -> str:
    """The text of a file's bytes.

    Args:
        data: the bytes.
        what: the file as an error names it, such as `lexicon 'lex.txt'`.
        error: the kind of error to raise.

    Raises:
        AsrkdError: the bytes are not UTF-8; the message names the line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        raise error(
            f"{what} line {line} is not UTF-8 ({wrong.reason}: byte 0x{data[wrong.start]:02x}); convert the file, for "
            "example by iconv -t UTF-8"
        ) from None


def read(path: str | Path, *, what: str = "", error: type[AsrkdError] = CorpusError) -> str:
    """The text of a file.

    Raises:
        AsrkdError: it is missing, a folder, not readable, or not UTF-8.
    """
    what = f"{what or 'file'} {str(path)!r}"
    try:
        data = Path(path).read_bytes()
    except OSError as wrong:
        raise error(f"{what} cannot be read: {wrong.strerror or wrong}") from None
    return decode(data, what=what, error=error)


def lines(text: str) -> list[str]:
    """The lines of a text, without their ends; a last line needs none."""
    found = text.split("\n")
    if found[-1] == "":
        found.pop()
    return [line[:-1] if line.endswith("\r") else line for line in found]


def numbered_lines(
    path: str | Path, *, what: str = "", error: type[AsrkdError] = CorpusError
) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of a file, without lines that hold nothing but separators.

    Raises:
        AsrkdError: as `read`.
    """
    for number, line in enumerate(lines(read(path, what=what, error=error)), 1):
        if line.strip(" \t\r"):
            yield number, line


def words(text: str) -> list[str]:
    """The words of a transcript or a line."""
    return [word for word in _SEPARATORS.split(text) if word]


def normal(text: str) -> str:
    """Unicode's composed form (NFC), in which words are compared and looked up."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def json_lines(data: bytes, *, what: str, error: type[AsrkdError] = CorpusError) -> list[Any]:
    """The values of JSON Lines.

    Raises:
        AsrkdError: a line is not JSON, or the bytes are not UTF-8; the message names the line.
    """
    values = []
    for number, line in enumerate(lines(decode(data, what=what, error=error)), 1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except ValueError as wrong:
                raise error(f"{what} line {number} is not JSON ({wrong})") from None
    return values
