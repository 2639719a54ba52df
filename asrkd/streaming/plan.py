"""The batch plan: which utterances make which batch of an epoch.

A pure function of (seed, epoch, fingerprint of the source) and of index columns. An epoch is dealt to a fixed number of
virtual streams and planned block by block, so any number of ranks and workers sees the same batches, and resuming in the
middle of an epoch plans one block, however long the epoch is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asrkd.config import check, setting
from asrkd.errors import ConfigError

# Lengths are blurred by up to this share before utterances are sorted by length, so that a small corpus does not
# put the same utterances together in every epoch.
_LENGTH_JITTER = 0.03


class FrameCounts(Protocol):
    """Frames of utterances: an array, or what looks them up (`selection.Frames`)."""

    def __getitem__(self, positions: NDArray[np.integer], /) -> Any: ...

    def __len__(self) -> int: ...

    def max(self) -> Any: ...


@dataclass
class BatchConfig:
    """How utterances are grouped into batches."""

    max_frames: int = setting(4000, at_least=1)
    """Budget of a batch in padded frames of the front end: utterances times frames of the longest."""
    max_utterances: int = setting(64, at_least=1)
    """Most utterances in a batch."""
    streams: int = setting(1, at_least=1)
    """Batches per update; processes share them, and their gradients add up."""
    block_utterances: int = setting(2048, at_least=1)
    """Utterances of a stream among which batches are formed: more give less padding and better shuffling, and take more memory."""

    def __post_init__(self) -> None:
        check(self, "batch")

    def check_lengths(self, lengths: FrameCounts, *, what: str) -> None:
        """Refuse utterances that fit no batch, and fewer utterances than streams, by `ConfigError`."""
        longest = int(lengths.max()) if len(lengths) else 0
        if longest > self.max_frames:
            raise ConfigError(
                f"{what}: an utterance has {longest} frames, more than max_frames ({self.max_frames}), so it fits no batch; "
                "raise max_frames, or filter the source by num_frames or duration"
            )
        if len(lengths) < self.streams:
            raise ConfigError(
                f"{what} has {len(lengths)} utterances, fewer than the {self.streams} streams that they are dealt to; use "
                "fewer streams or more data"
            )


class EpochOrder:
    """The order of one epoch: row groups are shuffled, the utterances in that order are cut into one stretch for every
    stream, and each stretch into blocks.

    A reader needs the row groups of one block of each of its streams at a time.
    """

    def __init__(
        self, group_sizes: NDArray[np.integer], limits: BatchConfig, *, seed: int, epoch: int, fingerprint: str
    ) -> None:
        """`group_sizes`: (G,) utterances of each row group, in storage order; `fingerprint`: of the source, hexadecimal."""
        self._key = [seed, epoch, int(fingerprint[:16], 16)]
        self._limits = limits
        sizes = np.asarray(group_sizes, dtype=np.int64)
        order = np.random.default_rng(self._key).permutation(len(sizes))
        self._first = (np.cumsum(sizes) - sizes)[order]
        # The group order[i] is at self._edges[i] up to self._edges[i + 1] of the epoch.
        self._edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[order])])

    def num_blocks(self, stream: int) -> int:
        """Blocks of a stream."""
        low, high = self._stretch(stream)
        return -(-(high - low) // self._limits.block_utterances)

    def members(self, stream: int, block: int) -> NDArray[np.int64]:
        """Positions in the source's index of the utterances of a block, row group after row group."""
        low, high = self._stretch(stream)
        count = self.num_blocks(stream)
        start, end = (low + (high - low) * edge // count for edge in (block, block + 1))
        places = np.arange(start, end)
        group = np.searchsorted(self._edges, places, side="right") - 1
        return self._first[group] + places - self._edges[group]

    def batches(self, stream: int, block: int, lengths: FrameCounts) -> list[NDArray[np.int64]]:
        """The batches of a block: positions of utterances of like length; the batches in a random order.

        Args:
            lengths: (U,) input frames of every utterance of the source.
        """
        members = self.members(stream, block)
        frames = np.asarray(lengths[members], dtype=np.int64)
        rng = np.random.default_rng([*self._key, stream, block])
        # Random before sorted: equal lengths would stay in the order of storage.
        shuffled = rng.permutation(len(members))
        members, frames = members[shuffled], frames[shuffled]
        order = np.argsort(frames * rng.uniform(1 - _LENGTH_JITTER, 1 + _LENGTH_JITTER, len(frames)), kind="stable")
        parts = np.split(members[order], _cuts(frames[order], self._limits))
        return [parts[number] for number in rng.permutation(len(parts))]

    def _stretch(self, stream: int) -> tuple[int, int]:
        total = int(self._edges[-1])
        return total * stream // self._limits.streams, total * (stream + 1) // self._limits.streams


def _cuts(lengths: NDArray[np.int64], limits: BatchConfig) -> list[int]:
    """Where batches begin, but for the first: each takes as many utterances as the budget allows."""
    cuts: list[int] = []
    count, longest = 0, 0
    for position, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        count += 1
        if count > limits.max_utterances or count * longest > limits.max_frames:
            cuts.append(position)
            count, longest = 1, length
    return cuts
