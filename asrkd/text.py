"""Text in: the one reader of every text file that users or asrkd itself write.

UTF-8 whatever the locale says, a byte order mark is dropped, and `\\n` and `\\r\\n` are the only line ends: U+2028,
U+2029, U+0085, a form feed and whatever else Python's `str.splitlines` would split at are text. Words are separated
by blanks, tabs and line ends alone, as in Kaldi, so that a no-break space is part of a word.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from asrkd.errors import AsrkdError, CorpusError

# `json.loads` without its checks for bytes and other decoders.
_parse = json.JSONDecoder().decode


def decode_utf8(data: bytes, *, what: str, error: type[AsrkdError] = CorpusError) -> str:
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
        raise error(_not_utf8(what, data.count(b"\n", 0, wrong.start) + 1, wrong)) from None


def _not_utf8(what: str, line: int, wrong: UnicodeDecodeError) -> str:
    return (
        f"{what} line {line} is not UTF-8 ({wrong.reason}: byte 0x{wrong.object[wrong.start]:02x}); convert the file, for "
        "example by iconv -t UTF-8"
    )


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
    return decode_utf8(data, what=what, error=error)


def lines(text: str) -> list[str]:
    """The lines of a text, without their ends; a last line needs none."""
    found = text.split("\n")
    if found[-1] == "":
        found.pop()
    return [line[:-1] if line.endswith("\r") else line for line in found]


def stream(
    path: str | Path, *, what: str = "", error: type[AsrkdError] = CorpusError, ends: bool = False
) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of a file of any size, read as it is iterated; a `.gz` is unpacked.

    Args:
        ends: keep the line ends.

    Raises:
        AsrkdError: as `read`, or compressed data that is damaged; the message names the line.
    """
    what, number = f"{what or 'file'} {str(path)!r}", 0
    try:
        with gzip.open(path) if str(path).endswith(".gz") else open(path, "rb") as data:
            for number, raw in enumerate(data, 1):
                try:
                    line = raw.decode()
                except UnicodeDecodeError as wrong:
                    raise error(_not_utf8(what, number, wrong)) from None
                if number == 1:
                    line = line.removeprefix("\ufeff")
                    if not line:  # a mark and nothing else is an empty file
                        continue
                yield number, line if ends else line.removesuffix("\n").removesuffix("\r")
    except (EOFError, zlib.error, gzip.BadGzipFile) as wrong:
        raise error(
            f"{what} line {number + 1} cannot be unpacked ({wrong}); the file is cut short or damaged"
        ) from None
    except OSError as wrong:
        raise error(f"{what} cannot be read: {wrong.strerror or wrong}") from None


def numbered_lines(
    path: str | Path, *, what: str = "", error: type[AsrkdError] = CorpusError
) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of a file, without lines that hold nothing but separators.

    Raises:
        AsrkdError: as `stream`, or a carriage return within a line: what follows would be words of the line before.
    """
    for number, line in stream(path, what=what, error=error):
        content = line.strip(" \t\r")
        if "\r" in content:
            raise error(
                f"{what or 'file'} {str(path)!r} line {number} holds a carriage return, by which old programs end lines; convert the file "
                "(mac2unix, or tr '\\r' '\\n')"
            )
        if content:
            yield number, line


def fingerprint(path: str | Path) -> str:
    """Of the words of a text file's lines, so that another editor's line ends, blanks and byte order mark make no difference."""
    digest = hashlib.sha256()
    for _, line in numbered_lines(path):
        digest.update(" ".join(words(line)).encode() + b"\n")
    return digest.hexdigest()[:32]


def words(text: str) -> list[str]:
    """The words of a transcript or a line."""
    return [word for word in text.replace("\t", " ").replace("\r", " ").replace("\n", " ").split(" ") if word]


def normal(text: str) -> str:
    """Unicode's composed form (NFC), in which words are compared and looked up."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def is_utf8(text: str) -> bool:
    """Whether a text can be written: a name whose bytes are not UTF-8 holds surrogates, and JSON's escapes may."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_values(
    lines: Iterable[tuple[int, str]], *, what: str, error: type[AsrkdError] = CorpusError
) -> Iterator[tuple[int, Any]]:
    """(number, value) of numbered lines of JSON; lines of nothing but separators are passed over.

    Raises:
        AsrkdError: a line is not JSON; the message names it.
    """
    for number, line in lines:
        try:
            yield number, _parse(line)
        except (ValueError, RecursionError) as wrong:
            if line.strip(" \t\r\n"):
                # The decoder counts lines within its own text, which is always one.
                reason = f"{wrong.msg} at column {wrong.colno}" if isinstance(wrong, json.JSONDecodeError) else wrong
                raise error(f"{what} line {number} is not JSON ({reason})") from None


def json_lines(data: bytes, *, what: str, error: type[AsrkdError] = CorpusError) -> list[Any]:
    """The values of JSON Lines.

    Raises:
        AsrkdError: a line is not JSON, or the bytes are not UTF-8; the message names the line.
    """
    numbered = enumerate(lines(decode_utf8(data, what=what, error=error)), 1)
    return [value for _, value in json_values(numbered, what=what, error=error)]
