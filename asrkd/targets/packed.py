"""Packed targets: the twin of `SparseTargets`, as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asrkd.targets.codecs import Codec, decode_entries
from asrkd.targets.packing import Columns
from asrkd.targets.select import Entries
from asrkd.targets.sparse import SparseTargets


@dataclass(frozen=True)
class PackedTargets:
    """Packed columns of U utterances, one utterance after another.

    For a GPU that takes in frames faster than the readers' cores unpack them: what travels to it is then the packed bytes, a fraction
    of the unpacked ones.

    Attributes:
        codec: that packed them.
        num_classes: V.
        lengths: (U,) int64 frames of each utterance.
        columns: by name, joined.
    """

    codec: Codec
    num_classes: int
    lengths: Tensor
    columns: Mapping[str, Tensor]

    @classmethod
    def join(cls, codec: Codec, rows: Sequence[Columns], num_frames: Sequence[int], num_classes: int) -> PackedTargets:
        """From the columns of several utterances.

        Raises:
            StoreError: a column is missing or has another size than the others say.
        """
        columns = codec.layout(num_classes).join(rows, num_frames)
        return cls(codec, num_classes, torch.tensor(num_frames, dtype=torch.int64), columns)

    def unpack(self) -> SparseTargets:
        """The targets, on the device of the columns.

        Raises:
            StoreError: the columns contradict each other.
        """
        entries = self.codec.layout(self.num_classes).unpack(self.columns, self.lengths)
        return decode_entries(self.codec, entries, self.lengths)

    def map(self, change: Callable[[Tensor], Tensor]) -> PackedTargets:
        """With every tensor changed, e.g. moved to a device."""
        columns = {name: change(value) for name, value in self.columns.items()}
        return PackedTargets(self.codec, self.num_classes, change(self.lengths), columns)


def pack(codec: Codec, entries: Entries) -> dict[str, Any]:
    """The kept classes of one utterance -> columns."""
    return codec.layout(entries.num_classes).pack(entries)


def unpack(codec: Codec, rows: Sequence[Columns], num_frames: Sequence[int], num_classes: int) -> SparseTargets:
    """The targets of several utterances from their columns.

    Raises:
        StoreError: the columns do not belong together.
    """
    return PackedTargets.join(codec, rows, num_frames, num_classes).unpack()


def as_stored(codec: Codec, log_probs: Tensor, keys: Tensor | None = None) -> SparseTargets:
    """What a reader of a store will get for (T, V) log-posteriors: encoded, packed and unpacked."""
    frames, classes = log_probs.shape
    return unpack(codec, [pack(codec, codec.encode(log_probs, keys))], [frames], classes)
