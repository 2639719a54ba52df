"""Rows of a store's tables as mappings."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def rows_of_table(table: pa.Table, *, copy: bool = True) -> list[dict[str, Any]]:
    """The rows of a table as mappings; list columns as arrays (no copy), others as Python values.

    `copy`: if not, binary columns are memoryviews of the table's own memory, which they keep.
    """
    columns: dict[str, list[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        array = column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
        if pa.types.is_list(array.type):
            values, offsets = array.values.to_numpy(zero_copy_only=False), array.offsets.to_numpy()
            valid = array.is_valid().to_numpy(zero_copy_only=False)
            columns[name] = [values[offsets[i] : offsets[i + 1]] if valid[i] else None for i in range(len(array))]
        elif pa.types.is_binary(array.type) and not copy:
            columns[name] = [value.as_buffer() and memoryview(value.as_buffer()) for value in array]
        else:
            columns[name] = array.to_pylist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
