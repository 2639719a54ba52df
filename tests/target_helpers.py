"""Posteriors to columns and back, of a codec and a number of classes, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asrkd.targets.codecs import PosteriorCodec
from asrkd.targets.packed import PackedTargets
from asrkd.targets.select import Entries
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import Columns


def pack(codec: PosteriorCodec, entries: Entries) -> dict[str, Any]:
    """The kept classes of one utterance -> columns."""
    return codec.layout(entries.num_classes).pack(entries)


def joined(codec: PosteriorCodec, rows: Sequence[Columns], num_frames: Sequence[int], classes: int) -> PackedTargets:
    """The columns of several utterances as a batch has them."""
    return PackedTargets.join(codec.layout(classes), rows, num_frames)


def unpack(codec: PosteriorCodec, rows: Sequence[Columns], num_frames: Sequence[int], classes: int) -> SparseTargets:
    """The targets of several utterances from their columns."""
    targets = joined(codec, rows, num_frames, classes).unpack()
    assert isinstance(targets, SparseTargets)
    return targets
