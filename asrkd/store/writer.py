"""Writes shards: one a work unit, whole or not at all, the same bytes for the same rows."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asrkd import fingerprint
from asrkd.fingerprint import canonical_json
from asrkd.store.files import Files
from asrkd.store.identity import Identity
from asrkd.store.row_groups import ROWS_ONLY
from asrkd.store.schema import CONTENT_KEY, IDENTITY_KEY, UNIT_KEY, shard_name, shard_schema

COMPRESSION_LEVEL = 9
_BLOBS = ("audio", "features", "alignment", "text", "custom", "text_raw", "text_words", "text_flags")


def write_shard(files: Files, unit: int, rows: Sequence[Mapping[str, Any]], identity: Identity) -> int:
    """Write the rows of a work unit as one Parquet file; returns its size in bytes.

    Args:
        rows: one mapping an utterance, keys the columns of the schema (absent: null), list columns as arrays.

    Raises:
        StoreError: the shard cannot be written; nothing is left under its name.
    """
    data = shard_bytes(unit, rows, identity)
    files.write(shard_name(unit), data)
    return len(data)


def shard_bytes(unit: int, rows: Sequence[Mapping[str, Any]], identity: Identity) -> bytes:
    """What `write_shard` writes."""
    schema = shard_schema(identity)
    table = pa.Table.from_arrays(
        [pa.array([row.get(field.name) for row in rows], field.type) for field in schema], schema=schema
    )
    # Audio and float32 features do not get smaller, or hardly.
    features = "zstd" if identity.embedding.eight_bit else "none"
    compression = dict.fromkeys(_leaves(schema), "zstd") | {"audio.bytes": "none", "features": features}
    packed = [field.name for field in schema if field.name.startswith("target_") and pa.types.is_binary(field.type)]
    statistics: list[str] = []
    if identity.row_groups == ROWS_ONLY:
        # Those of blobs were long. Nobody reads any, and they are a fifth of a footer.
        blobs = (*_BLOBS, *(name for layout in identity.layouts.values() for name in layout.columns))
        statistics = [leaf for leaf in _leaves(schema) if not leaf.startswith(blobs)]
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        schema,
        compression=compression,
        compression_level={leaf: COMPRESSION_LEVEL for leaf, codec in compression.items() if codec == "zstd"},
        use_dictionary=["speaker", "recording_id"],
        # The lengths apart from the bytes, so that a compressor sees one kind of byte.
        column_encoding=dict.fromkeys(packed, "DELTA_LENGTH_BYTE_ARRAY"),
        write_page_checksum=True,
        write_statistics=statistics,
        # Parquet's own types say all; Arrow's copy of the schema takes 2 kB a shard and would hide the metadata below.
        store_schema=False,
    ) as writer:
        start = 0
        # Arrow makes one of no rows for an empty table.
        for size in identity.row_groups.sizes(table) or [0]:
            writer.write_table(table.slice(start, size))
            start += size
        # Not in the schema's metadata, which Arrow would store a second time.
        writer.add_key_value_metadata(_metadata(unit, identity))
        if identity.row_groups != ROWS_ONLY:
            # So another content has another footer, which is what a catalog knows of a shard.
            writer.add_key_value_metadata({CONTENT_KEY: fingerprint.of_bytes(buffer.getbuffer())})
    return buffer.getvalue()


def _leaves(schema: pa.Schema) -> list[str]:
    """The names of Parquet's columns."""
    names = []
    for field in schema:
        if pa.types.is_struct(field.type):
            names += [f"{field.name}.{child.name}" for child in field.type]
        else:
            names.append(f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name)
    return names


def _metadata(unit: int, identity: Identity) -> dict[bytes | str, str]:
    metadata: dict[bytes | str, str] = {IDENTITY_KEY: canonical_json(identity.to_dict()), UNIT_KEY: str(unit)}
    if identity.embedding.column == "audio":
        # By this `datasets.load_dataset("parquet")` plays the column.
        audio = {"_type": "Audio", "sampling_rate": identity.front_end.sampling_rate}
        metadata["huggingface"] = canonical_json({"info": {"features": {"audio": audio}}})
    return metadata
