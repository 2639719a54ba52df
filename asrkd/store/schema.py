"""The columns of a shard: one row an utterance."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

from asrkd.store.identity import Identity
from asrkd.targets.streams import TOKENS

IDENTITY_KEY = b"asrkd.identity"
UNIT_KEY = b"asrkd.unit"
CONTENT_KEY = b"asrkd.content"
# What the indexes of a layer are of, in the store's folder: (C, K, D / C) float32 as numpy writes it.
CODEBOOKS = "codebooks.npy"
# Cheap columns, from which streams are planned.
INDEX = ("id", "duration", "num_frames", "speaker", "kept_mass", "entropy", "confidence")

_FIXED = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("recording_id", pa.string(), nullable=False),
    pa.field("start", pa.float64(), nullable=False),
    pa.field("duration", pa.float64(), nullable=False),
    pa.field("sampling_rate", pa.int32(), nullable=False),
    pa.field("num_samples", pa.int64(), nullable=False),
    pa.field("num_frames", pa.int32(), nullable=False),
    pa.field("speaker", pa.string()),
    pa.field("text", pa.string()),
    pa.field("custom", pa.string()),
    # The Hugging Face audio struct.
    pa.field("audio", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
    # float32, little-endian: a list would cost a level of nesting for every number.
    pa.field("features", pa.binary()),
    pa.field("alignment", pa.list_(pa.int32())),
    pa.field("kept_mass", pa.float32()),
    pa.field("entropy", pa.float32()),
    pa.field("confidence", pa.float32()),
]
# Of a store of a text teacher, whose normalized text is in `text` (`asrkd.corpus.text_flags`).
_TEXT = [
    pa.field("text_raw", pa.string()),
    pa.field("text_confidence", pa.float32()),
    pa.field("text_rate", pa.float32()),
    pa.field("text_compression", pa.float32()),
    pa.field("text_repetition", pa.float32()),
    pa.field("text_no_speech", pa.float32()),
    pa.field("text_language", pa.string()),
    pa.field("text_flags", pa.list_(pa.string())),
    # JSON: [word, start, end], seconds.
    pa.field("text_words", pa.string()),
]


def shard_schema(identity: Identity) -> pa.Schema:
    """The Arrow schema of a store's shards: the fixed columns, those of a text teacher, and the packed ones of each stream of targets."""
    columns = [column for layout in identity.layouts.values() for column in layout.columns.items()]
    text = _TEXT if TOKENS in identity.streams else []
    return pa.schema([*_FIXED, *text, *(pa.field(name, _packed_type(dtype)) for name, dtype in columns)])


def _packed_type(dtype: np.dtype) -> pa.DataType:
    """Bytes as one value an utterance: a list of small integers would take four bytes each before compression."""
    return pa.binary() if dtype == np.uint8 else pa.list_(pa.from_numpy_dtype(dtype))


def shard_name(unit: int) -> str:
    """The file of a work unit."""
    return f"shards/part-{unit:05d}.parquet"


def quarantine_name(unit: int) -> str:
    """The file of a unit's cuts that could not be labeled."""
    return f"quarantine/part-{unit:05d}.jsonl"


_OF_UNIT = re.compile(r"part-(\d{5,})\..+")


def unit_of(name: str) -> int | None:
    """The work unit of a file `part-00000.*`, in whatever folder it is; None for another name."""
    match = _OF_UNIT.fullmatch(name)
    return int(match[1]) if match else None
