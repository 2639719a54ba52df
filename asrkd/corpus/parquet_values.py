"""A value of a Parquet column by itself: where its bytes are, or from its row group.

Parquet has no places of values: a page is decoded as a whole. But a column that is not compressed, as `datasets` writes audio, has
the bytes of each value in a row in the file, and these are searched for once, when a corpus is planned.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asrkd.cache import LruCache
from asrkd.errors import CorpusError

# Of audio in a row group, so that it can be held.
MOST_BYTES = 2**31
_HELD_BYTES = 256 * 2**20
_held: LruCache[pa.ChunkedArray] = LruCache(_HELD_BYTES)


@dataclass(frozen=True)
class ColumnBytes:
    """The bytes of a column in a row group.

    Attributes:
        begin, end: in the file.
        size: once decoded.
        is_plain: whether the values are in the file as they are.
    """

    begin: int
    end: int
    size: int
    is_plain: bool


def column_place(parquet: pq.ParquetFile, group: int, column: str) -> ColumnBytes:
    """Where the values of a column (of a struct its `bytes`) are in a row group."""
    metadata = parquet.metadata.row_group(group)
    names = (f"{column}.bytes", column)
    for number in range(metadata.num_columns):
        chunk = metadata.column(number)
        if chunk.path_in_schema in names:
            begin = chunk.data_page_offset
            is_plain = chunk.compression == "UNCOMPRESSED" and not chunk.has_dictionary_page
            return ColumnBytes(begin, begin + chunk.total_compressed_size, chunk.total_uncompressed_size, is_plain)
    return ColumnBytes(0, 0, 0, False)


def value_finder(file: Path, chunk: ColumnBytes) -> Callable[[bytes], int | None]:
    """What finds the values of a column chunk in the file, when it is called with one after the other: the byte, or None."""
    if not chunk.is_plain:
        return lambda _: None
    with open(file, "rb") as stream:
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    at = chunk.begin

    def find(value: bytes) -> int | None:
        nonlocal at
        # Before each value is its length.
        begin = data.find(len(value).to_bytes(4, "little") + value[:256], at, chunk.end) + 4
        if begin < 4 or data[begin : begin + len(value)] != value:
            return None
        at = begin + len(value)
        return begin

    return find


def read_value(place: dict[str, Any]) -> bytes:
    """The bytes of a row's audio, of the row groups that are held or from the file.

    Raises:
        CorpusError: the file is missing or has changed.
    """
    file, group, row, column = (place[name] for name in ("file", "row_group", "row", "column"))
    try:
        values = _held.get((file, group))
        if values is None:
            with pq.ParquetFile(file) as parquet:
                values = parquet.read_row_group(group, columns=[f"{column}.bytes"]).column(column)
            _held.put((file, group), values, values.nbytes)
        value: bytes | None = values[row]["bytes"].as_py()
    except (pa.ArrowException, OSError, IndexError, KeyError) as error:
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CorpusError(f"{file!r} cannot be read ({why}); restore it, or plan again") from None
    if value is None or len(value) != place["size"]:
        raise CorpusError(
            f"{file!r} no longer holds the audio of row {row} in row group {group}; restore it, or plan again"
        )
    return value
