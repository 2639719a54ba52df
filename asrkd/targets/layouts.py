"""How what is kept of utterances becomes columns of rows, and the columns of many rows targets again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from asrkd.errors import StoreError
from asrkd.targets import packing
from asrkd.targets.arrays import Array, Arrays, arrays_for
from asrkd.targets.packing import ByteLayout
from asrkd.targets.select import Entries
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import Columns
from asrkd.targets.vectors import FrameVectors

LOG_PROBS, LAYER = "target_log_probs", "layer"


class Coded(Protocol):
    """A codec that says what its codes are worth (`asrkd.targets.codecs.PosteriorCodec`)."""

    def values(self, codes: Array, splits: Array, num_classes: int, arrays: Arrays) -> tuple[Array, Array]: ...


@dataclass(frozen=True)
class Bytes:
    """Posteriors: some classes of each frame, with the codes of a codec: `asrkd.targets.packing`."""

    layout: ByteLayout
    codec: Coded

    @property
    def columns(self) -> dict[str, np.dtype]:
        return dict.fromkeys(self.layout.columns, np.dtype(np.uint8))

    def pack(self, encoded: Entries) -> dict[str, Any]:
        counts, ids, codes = (part.cpu().numpy() for part in (encoded.counts, encoded.ids, encoded.codes))
        return packing.pack_columns(counts, ids, codes, self.layout)

    def join(self, rows: Sequence[Columns], num_frames: Sequence[int]) -> dict[str, Tensor]:
        return packing.join_columns(rows, num_frames, self.layout)

    def unpack(self, columns: Mapping[str, Tensor], num_frames: Tensor) -> SparseTargets:
        arrays = arrays_for(num_frames)
        given = {name: arrays.given(column) for name, column in columns.items()}
        splits, ids, codes = packing.unpack_columns(given, arrays.given(num_frames), self.layout, arrays)
        log_probs, missing = self.codec.values(codes, splits, self.layout.num_classes, arrays)
        row_splits, ids, log_probs, missing = (arrays.tensor(one) for one in (splits, ids, log_probs, missing))
        return SparseTargets(row_splits, ids, log_probs, missing, self.layout.num_classes, num_frames)


@dataclass(frozen=True)
class Floats:
    """Posteriors: every class of every frame, as float32."""

    num_classes: int

    @property
    def columns(self) -> dict[str, np.dtype]:
        return {LOG_PROBS: np.dtype(np.float32)}

    def pack(self, encoded: Entries) -> dict[str, Any]:
        return {LOG_PROBS: encoded.codes.cpu().numpy()}

    def join(self, rows: Sequence[Columns], num_frames: Sequence[int]) -> dict[str, Tensor]:
        for row, frames in zip(rows, num_frames, strict=True):
            if row.get(LOG_PROBS) is None:
                raise StoreError(f"column {LOG_PROBS!r} is not among {', '.join(row)}; the shard is of another codec")
            if len(row[LOG_PROBS]) != frames * self.num_classes:
                raise StoreError(
                    f"column {LOG_PROBS!r} has {len(row[LOG_PROBS])} items where {frames * self.num_classes} belong; the shard is damaged"
                )
        values = [np.asarray(row[LOG_PROBS], dtype=np.float32) for row in rows]
        return {LOG_PROBS: torch.from_numpy(np.concatenate(values) if values else np.zeros(0, dtype=np.float32))}

    def unpack(self, columns: Mapping[str, Tensor], num_frames: Tensor) -> SparseTargets:
        values = columns[LOG_PROBS]
        frames = len(values) // self.num_classes
        splits = torch.arange(0, len(values) + 1, self.num_classes, device=values.device)
        arrays = arrays_for(values)
        ids = arrays.tensor(arrays.tile(self.num_classes, frames, values))
        return SparseTargets(splits, ids, values, values.new_zeros(frames), self.num_classes, num_frames)


@dataclass(frozen=True)
class Vectors:
    """The output of a layer: a vector for every frame, as bytes.

    Attributes:
        width: items of a vector.
        item: type of a stored item, little-endian.
        limit: items are indexes below it; 0 for numbers.
        spec: of the codec, for people.
    """

    width: int
    item: np.dtype
    limit: int
    spec: str

    @property
    def columns(self) -> dict[str, np.dtype]:
        return {LAYER: np.dtype(np.uint8)}

    def pack(self, encoded: bytes) -> dict[str, Any]:
        return {LAYER: encoded}

    def join(self, rows: Sequence[Columns], num_frames: Sequence[int]) -> dict[str, Tensor]:
        size = self.width * self.item.itemsize
        for row, frames in zip(rows, num_frames, strict=True):
            if row.get(LAYER) is None:
                raise StoreError(f"column {LAYER!r} is not among {', '.join(row)}; the shard is of another codec")
            if len(row[LAYER]) != frames * size:
                raise StoreError(
                    f"column {LAYER!r} has {len(row[LAYER])} bytes, but {frames} frames of {self.spec!r} have {frames * size}; "
                    "the shard is damaged"
                )
        joined = np.frombuffer(bytearray().join(row[LAYER] for row in rows), self.item)
        # A tensor of numbers is of the machine's own byte order.
        native = joined.astype(self.item.newbyteorder("="), copy=False)
        return {LAYER: torch.from_numpy(native).view(-1, self.width)}

    def unpack(self, columns: Mapping[str, Tensor], num_frames: Tensor) -> FrameVectors:
        values = columns[LAYER]
        if not self.limit:
            return FrameVectors(values.float(), num_frames)
        if len(values) and int(values.max()) >= self.limit:
            raise StoreError(
                f"column {LAYER!r} has index {int(values.max())} of a codebook of {self.limit}; the shard is damaged"
            )
        return FrameVectors(values.long(), num_frames)
