"""Named streams of targets: what a teacher says of an utterance, in several ways, and how each is stored.

A store has any of them, each with a codec: `posteriors` (over the inventory, for every frame), `hidden` (the output of a layer, for every
frame), `tokens` (what a text teacher wrote). Labeling packs them, shards and readers carry their columns, and batches have them by name,
without knowing what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from torch import Tensor

POSTERIORS, HIDDEN, TOKENS = "posteriors", "hidden", "tokens"
# The columns of one utterance by name, as they are written, or as a table of rows has them.
Columns = Mapping[str, Any]


class Targets(Protocol):
    """The targets of U utterances in one stream, one utterance after another, as losses take them."""

    @property
    def num_frames(self) -> int | None:
        """Frames of all utterances; None where they are not counted in frames."""

    @classmethod
    def cat(cls, parts: Sequence[Any]) -> Self:
        """The utterances of all parts, one after another; at least one part."""

    def frames(self, places: Tensor) -> Self:
        """Of one utterance whose frames become those at (K,) places; the same where they are not counted in frames."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """With every tensor changed, e.g. moved to a device."""


class Layout(Protocol):
    """The columns of a stream."""

    @property
    def columns(self) -> Mapping[str, np.dtype]:
        """Names, and types of items: a column of bytes is one value an utterance."""

    def pack(self, encoded: Any) -> dict[str, Any]:
        """What is kept of one utterance -> columns."""

    def join(self, rows: Sequence[Columns], num_frames: Sequence[int]) -> dict[str, Tensor]:
        """The columns of utterances, one after another.

        Raises:
            StoreError: a column is missing or has another size than the others say.
        """

    def unpack(self, columns: Mapping[str, Tensor], num_frames: Tensor) -> Targets:
        """Joined columns of utterances of (U,) frames -> targets, on the device of the columns.

        Raises:
            StoreError: the columns contradict each other.
        """


class Codec(Protocol):
    """How a stream is stored.

    Attributes:
        stream: that it is for.
        form: of its specs, as people read it: the name by which `asrkd.targets.codecs.CODECS` has it, and its arguments.
        arguments: their types, in order; what it is made from.
        by_frame: its targets have one item for every frame.
    """

    stream: ClassVar[str]
    form: ClassVar[str]
    arguments: ClassVar[tuple[type[int] | type[float], ...]]
    by_frame: ClassVar[bool]

    @property
    def spec(self) -> str:
        """The name by which `parse_codec` makes an equal codec."""

    def layout(self, num_classes: int) -> Layout:
        """Its columns in a store whose inventory has `num_classes` classes (0: no inventory)."""
