"""Packed targets: the twin of a stream's targets, as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asrkd.targets.codecs import PosteriorCodec
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import Columns, Layout, Targets


@dataclass(frozen=True)
class PackedTargets:
    """Packed columns of U utterances, one utterance after another.

    For a GPU that takes in frames faster than the readers' cores unpack them: what travels to it is then the packed bytes, a fraction
    of the unpacked ones.

    Attributes:
        layout: of the columns.
        lengths: (U,) int64 frames of each utterance.
        columns: by name, joined.
    """

    layout: Layout
    lengths: Tensor
    columns: Mapping[str, Tensor]

    @classmethod
    def join(cls, layout: Layout, rows: Sequence[Columns], num_frames: Sequence[int]) -> PackedTargets:
        """From the columns of several utterances.

        Raises:
            StoreError: a column is missing or has another size than the others say.
        """
        return cls(layout, torch.from_numpy(np.array(num_frames, dtype=np.int64)), layout.join(rows, num_frames))

    def unpack(self) -> Targets:
        """The targets, on the device of the columns.

        Raises:
            StoreError: the columns contradict each other.
        """
        return self.layout.unpack(self.columns, self.lengths)

    def map(self, change: Callable[[Tensor], Tensor]) -> PackedTargets:
        """With every tensor changed, e.g. moved to a device."""
        columns = {name: change(value) for name, value in self.columns.items()}
        return PackedTargets(self.layout, change(self.lengths), columns)


def as_stored(codec: PosteriorCodec, log_probs: Tensor, keys: Tensor | None = None) -> SparseTargets:
    """What a reader of a store will get for (T, V) log-posteriors: encoded, packed and unpacked."""
    frames, classes = log_probs.shape
    layout = codec.layout(classes)
    columns = layout.join([layout.pack(codec.encode(log_probs, keys))], [frames])
    return layout.unpack(columns, torch.tensor([frames]))
