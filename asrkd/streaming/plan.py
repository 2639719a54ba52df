"""The batch plan: which utterances make which batch of an epoch.

A pure function of (seed, epoch, fingerprint of the source) and of index columns, so the same batches come out on any
number of ranks, and resuming takes the same time at any point of an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrkd.errors import ConfigError

# Lengths are blurred by up to this share before utterances are sorted by length, so that a small corpus does not
# put the same utterances together in every epoch.
_LENGTH_JITTER = 0.05


@dataclass(frozen=True)
class EpochPlan:
    """Batches of one epoch: batch i is `order[splits[i]:splits[i + 1]]`, positions in the source's index.

    Attributes:
        order: (U,) int64, each of the U utterances once.
        splits: (B + 1,) int64.
    """

    order: NDArray[np.int64]
    splits: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.splits) - 1

    def batch(self, number: int) -> NDArray[np.int64]:
        """Positions of the utterances of batch `number`, 0 <= number < len(self)."""
        return self.order[self.splits[number] : self.splits[number + 1]]


def plan_epoch(
    num_frames: NDArray[np.integer],
    groups: NDArray[np.integer],
    *,
    seed: int,
    epoch: int,
    fingerprint: str,
    max_frames: int,
    max_utterances: int,
    block_utterances: int = 2048,
) -> EpochPlan:
    """Plan one epoch.

    Row groups are shuffled and joined to blocks of about `block_utterances`; within a block, utterances of like
    length make a batch, and the batches are shuffled. A reader therefore needs the row groups of one block at a time.

    Args:
        num_frames: (U,) frames of each utterance, at least 1.
        groups: (U,) number of the row group that holds each utterance: 0, 1, ... in storage order.
        seed, epoch, fingerprint: of the run, of the pass over the source, and of the source.
        max_frames: budget of a batch in padded frames: utterances * frames of the longest.
        max_utterances: most utterances in a batch.
        block_utterances: utterances among which a batch is made; more give less padding and take more memory.

    Raises:
        ConfigError: a limit below 1, or an utterance longer than `max_frames`.
    """
    limits = {"max_frames": max_frames, "max_utterances": max_utterances, "block_utterances": block_utterances}
    for name, limit in limits.items():
        if limit < 1:
            raise ConfigError(f"{name} is {limit}, but must be at least 1")
    lengths = np.asarray(num_frames, dtype=np.int64)
    if len(lengths) == 0:
        return EpochPlan(np.zeros(0, np.int64), np.zeros(1, np.int64))
    if int(lengths.max()) > max_frames:
        raise ConfigError(
            f"an utterance has {int(lengths.max())} frames, more than max_frames ({max_frames}), so it fits no batch; "
            "raise max_frames, or filter the source by num_frames or duration"
        )
    rng = np.random.default_rng([seed, epoch, int(fingerprint[:16], 16)])
    block = _blocks(np.asarray(groups, dtype=np.int64), block_utterances, rng)
    blurred = lengths * rng.uniform(1.0 - _LENGTH_JITTER, 1.0 + _LENGTH_JITTER, len(lengths))
    order = np.lexsort((blurred, block))
    starts = _cut(lengths[order], block[order], max_frames, max_utterances)
    return _shuffle_batches(order, starts, block[order][starts], rng)


def _blocks(groups: NDArray[np.int64], block_utterances: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(U,) the block of each utterance: row groups in a random order, joined until a block is full."""
    sizes = np.bincount(groups)
    shuffled = rng.permutation(len(sizes))
    before = np.cumsum(sizes[shuffled]) - sizes[shuffled]
    block_of_group = np.empty(len(sizes), np.int64)
    block_of_group[shuffled] = before // block_utterances
    return block_of_group[groups]


def _cut(
    lengths: NDArray[np.int64], block: NDArray[np.int64], max_frames: int, max_utterances: int
) -> NDArray[np.int64]:
    """(B,) first positions of batches: as many utterances as the budget allows, none over the edge of a block."""
    starts: list[int] = []
    count, longest, current = 0, 0, -1
    for position, (length, number) in enumerate(zip(lengths.tolist(), block.tolist(), strict=True)):
        longest = max(longest, length)
        count += 1
        if number != current or count > max_utterances or count * longest > max_frames:
            starts.append(position)
            count, longest, current = 1, length, number
    return np.asarray(starts, dtype=np.int64)


def _shuffle_batches(
    order: NDArray[np.int64], starts: NDArray[np.int64], block: NDArray[np.int64], rng: np.random.Generator
) -> EpochPlan:
    """Batches in a random order within each block; blocks stay one after another."""
    sizes = np.diff(np.append(starts, len(order)))
    shuffled = np.lexsort((rng.random(len(starts)), block))
    splits = np.concatenate([[0], np.cumsum(sizes[shuffled])])
    within = np.arange(len(order)) - np.repeat(splits[:-1], sizes[shuffled])
    return EpochPlan(order[np.repeat(starts[shuffled], sizes[shuffled]) + within], splits)
