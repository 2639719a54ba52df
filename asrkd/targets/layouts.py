"""How kept classes become columns of a row, and the columns of many rows kept classes again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from asrkd.errors import StoreError
from asrkd.targets import device, packing
from asrkd.targets.packing import ByteLayout, Columns
from asrkd.targets.select import Entries

LOG_PROBS = "target_log_probs"


class Layout(Protocol):
    """The packed columns of a codec, for a number of classes."""

    @property
    def columns(self) -> dict[str, np.dtype]:
        """Names and types of items."""

    def pack(self, entries: Entries) -> dict[str, Any]:
        """The kept classes of one utterance -> columns."""

    def join(self, rows: Sequence[Columns], lengths: Sequence[int]) -> dict[str, Tensor]:
        """The columns of utterances, one after another.

        Raises:
            StoreError: a column is missing or has another size than the others say.
        """

    def unpack(self, columns: Mapping[str, Tensor], lengths: Tensor) -> Entries:
        """Joined columns of utterances of (U,) frames -> kept classes, on the device of the columns.

        Raises:
            StoreError: the columns contradict each other.
        """


@dataclass(frozen=True)
class Bytes:
    """Some classes of each frame, with codes: `asrkd.targets.packing`."""

    layout: ByteLayout

    @property
    def columns(self) -> dict[str, np.dtype]:
        return dict.fromkeys(self.layout.columns, np.dtype(np.uint8))

    def pack(self, entries: Entries) -> dict[str, Any]:
        counts, ids, codes = (part.cpu().numpy() for part in (entries.counts, entries.ids, entries.codes))
        return packing.pack_columns(counts, ids, codes, self.layout)

    def join(self, rows: Sequence[Columns], lengths: Sequence[int]) -> dict[str, Tensor]:
        return packing.join_columns(rows, lengths, self.layout)

    def unpack(self, columns: Mapping[str, Tensor], lengths: Tensor) -> Entries:
        # On a CPU numpy is two to three times as fast as torch (tools/benchmarks/unpacking.py), most of it in sorting.
        unpack = packing.unpack_columns if lengths.device.type == "cpu" else device.unpack_on_device
        return Entries(*unpack(columns, lengths, self.layout), self.layout.num_classes)


@dataclass(frozen=True)
class Floats:
    """Every class of every frame, as float32."""

    num_classes: int

    @property
    def columns(self) -> dict[str, np.dtype]:
        return {LOG_PROBS: np.dtype(np.float32)}

    def pack(self, entries: Entries) -> dict[str, Any]:
        return {LOG_PROBS: entries.codes.cpu().numpy()}

    def join(self, rows: Sequence[Columns], lengths: Sequence[int]) -> dict[str, Tensor]:
        for row, frames in zip(rows, lengths, strict=True):
            if row.get(LOG_PROBS) is None:
                raise StoreError(f"column {LOG_PROBS!r} is not among {', '.join(row)}; the shard is of another codec")
            if len(row[LOG_PROBS]) != frames * self.num_classes:
                raise StoreError(
                    f"column {LOG_PROBS!r} has {len(row[LOG_PROBS])} items where {frames * self.num_classes} belong; the shard is damaged"
                )
        values = [np.asarray(row[LOG_PROBS], dtype=np.float32) for row in rows]
        return {LOG_PROBS: torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.float32), *values]))}

    def unpack(self, columns: Mapping[str, Tensor], lengths: Tensor) -> Entries:
        values = columns[LOG_PROBS]
        frames = len(values) // self.num_classes
        ids = torch.arange(self.num_classes, device=values.device).repeat(frames)
        counts = torch.full((frames,), self.num_classes, dtype=torch.int64, device=values.device)
        return Entries(counts, ids, values, self.num_classes)
