"""Row groups: the pieces of a shard that are read at once, cut by bytes and by rows."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asrkd.errors import ConfigError


@dataclass(frozen=True)
class RowGroups:
    """How rows are cut into row groups, in order: each takes rows until one more would pass a bound. One utterance alone may.

    Attributes:
        rows: most utterances of a row group.
        num_bytes: most bytes of a row group in memory, before compression; None for any number.
    """

    rows: int
    num_bytes: int | None = None

    @property
    def spec(self) -> str:
        """As an identity has it; empty for `ROWS_ONLY`, which identities did not name."""
        return "" if self.num_bytes is None else f"{self.rows}:{self.num_bytes}"

    def sizes(self, table: pa.Table) -> list[int]:
        """Utterances of each row group, a function of the rows alone."""
        edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(row_bytes(table))])
        sizes, start = [], 0
        while start < len(table):
            end = min(start + self.rows, len(table))
            if self.num_bytes is not None:
                fitting = int(np.searchsorted(edges, edges[start] + self.num_bytes, side="right")) - 1
                end = min(end, max(fitting, start + 1))
            sizes.append(end - start)
            start = end
        return sizes


# Of stores that were planned before row groups had a bound of bytes; their footers have statistics of columns.
ROWS_ONLY = RowGroups(64)
# By tools/benchmarks/row_groups.py (docs/format.md).
DEFAULT = RowGroups(256, 16 * 2**20)


def parse_row_groups(spec: str) -> RowGroups:
    """The inverse of `RowGroups.spec`.

    Raises:
        ConfigError: it is not one.
    """
    if not spec:
        return ROWS_ONLY
    match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", spec, re.ASCII)
    if not match:
        raise ConfigError(f"row_groups is {spec!r}, but must be ROWS:BYTES, two whole numbers above 0")
    return RowGroups(int(match[1]), int(match[2]))


def row_bytes(table: pa.Table) -> NDArray[np.int64]:
    """(U,) bytes of the values of each row; a missing one has none, and lengths of strings and lists are not counted."""
    total = np.zeros(len(table), np.int64)
    for column in table.columns:
        total += _value_bytes(column)
    return total


def _value_bytes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    kind = column.type
    if pa.types.is_struct(kind):
        children = (pc.struct_field(column, [number]) for number in range(kind.num_fields))
        return np.sum([_value_bytes(child) for child in children], axis=0)
    if pa.types.is_binary(kind) or pa.types.is_string(kind):
        return _numbers(pc.binary_length(column))
    if pa.types.is_list(kind):
        lengths = _numbers(pc.list_value_length(column))
        if pa.types.is_primitive(kind.value_type):
            return lengths * (kind.value_type.bit_width // 8)
        edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(_value_bytes(pc.list_flatten(column)))])
        return np.diff(edges[np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])])
    return _numbers(column.is_valid()) * (kind.bit_width // 8)


def _numbers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    found: NDArray[np.int64] = column.cast(pa.int64()).fill_null(0).to_numpy()
    return found
