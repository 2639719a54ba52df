"""What each global batch holds: a pure function of seed, sources, limits and schedule, on every rank the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrkd.cache import LruCache
from asrkd.errors import ConfigError
from asrkd.streaming.mixture import Phase, check_phases, phase_at, source_at
from asrkd.streaming.plan import BatchConfig, EpochOrder, FrameCounts
from asrkd.streaming.rows import Place
from asrkd.streaming.source import Source

# Epochs whose order is kept: a stream may begin the next one a little before the others.
_EPOCHS = 3


@dataclass(frozen=True)
class BatchKey:
    """One batch, as it is sent to the process that reads it.

    Attributes:
        source: its name.
        epoch: of the source, from 0.
        places: of its utterances.
        augment: whether to augment.
        step: number of the global batch.
        step_frames: output frames of the global batch, over all ranks.
    """

    source: str
    epoch: int
    places: list[Place]
    augment: bool
    step: int
    step_frames: int


@dataclass(frozen=True)
class Position:
    """The next batch of one stream in one source: epoch, block of the stream, batch of the block."""

    epoch: int = 0
    block: int = 0
    batch: int = 0


@dataclass(frozen=True)
class SamplerProgress:
    """How far all streams have come: global batches so far, and the position of each stream in each source.

    A stream has ended when a source that does not repeat had nothing left for it.
    """

    step: int
    positions: Mapping[str, tuple[Position, ...]]
    ended: tuple[bool, ...]

    def to_dict(self) -> dict[str, Any]:
        """Integers, fit for JSON: for each source the epochs, blocks and batches of its streams."""
        sources = {
            name: {part: [getattr(one, part) for one in streams] for part in ("epoch", "block", "batch")}
            for name, streams in sorted(self.positions.items())
        }
        return {"step": self.step, "sources": sources, "ended": [int(one) for one in self.ended]}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> SamplerProgress:
        positions = {
            name: tuple(map(Position, parts["epoch"], parts["block"], parts["batch"]))
            for name, parts in state["sources"].items()
        }
        return cls(state["step"], positions, tuple(bool(one) for one in state["ended"]))


class Sampler:
    """Chooses the utterances of batches; reads nothing but the sources' indexes.

    Args:
        sources: name -> source.
        lengths: name -> (U,) input frames of every utterance, which the budget counts.
        num_frames: name -> (U,) output frames of every utterance.
        limits: of batches.
        seed: of the order.
        rank, world_size: this process and how many there are; rank r takes the streams r, r + world_size, ...

    Raises:
        ConfigError: a rank that is none, more ranks than streams, or utterances that fit no batch.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        lengths: Mapping[str, FrameCounts],
        num_frames: Mapping[str, FrameCounts],
        limits: BatchConfig,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank}, but must be within 0..{world_size - 1}, the ranks of {world_size}")
        if world_size > limits.streams:
            raise ConfigError(
                f"{world_size} ranks share {limits.streams} streams, so some would have nothing to do; set streams to at "
                "least the number of ranks, and to the same in every run that resumes this one"
            )
        self.limits, self.seed, self.rank, self.world_size = limits, seed, rank, world_size
        self._sources, self._lengths, self._num_frames = sources, lengths, num_frames
        for name in sources:
            limits.check_lengths(lengths[name], what=f"source {name!r}")
        self._orders: LruCache[EpochOrder] = LruCache(_EPOCHS * len(sources))
        # The blocks that streams are in: planned once, used for some tens of batches.
        self._blocks: LruCache[list[NDArray[np.int64]]] = LruCache(limits.streams * len(sources))

    def start(self) -> SamplerProgress:
        """Nothing taken yet."""
        streams = self.limits.streams
        return SamplerProgress(0, {name: (Position(),) * streams for name in self._sources}, (False,) * streams)

    def steps(
        self, schedule: Sequence[Phase], progress: SamplerProgress
    ) -> Iterator[tuple[list[BatchKey], SamplerProgress]]:
        """This rank's batches of each global batch from `progress` on, and the progress after it.

        At the end of sources that do not repeat, a global batch has batches of fewer streams, for some ranks perhaps of none.
        """
        check_phases(schedule, self._sources)
        while (found := phase_at(schedule, progress.step)) is not None:
            drawn, progress = self._step(*found, progress)
            if all(progress.ended):
                return
            frames = sum(int(self._num_frames[name][batch].sum()) for name, _, batch in drawn.values())
            mine = [stream for stream in drawn if stream % self.world_size == self.rank]
            keys = [self._key(*drawn[stream], progress.step - 1, frames, augment=True) for stream in mine]
            yield keys, progress

    def epoch(self, name: str, number: int) -> Iterator[BatchKey]:
        """This rank's batches of one epoch of a source: each utterance on one rank, one batch more or less than others."""
        order, count = self._order(name, number), 0
        for stream in range(self.limits.streams):
            for block in range(order.num_blocks(stream)):
                for batch in order.batches(stream, block, self._lengths[name]):
                    if count % self.world_size == self.rank:
                        frames = int(self._num_frames[name][batch].sum())
                        yield self._key(name, number, batch, count, frames, augment=False)
                    count += 1

    def _step(
        self, phase: Phase, step: int, progress: SamplerProgress
    ) -> tuple[dict[int, tuple[str, int, NDArray[np.int64]]], SamplerProgress]:
        """By stream: source, epoch and positions of its batch; and the progress after this global batch."""
        positions = {name: list(streams) for name, streams in progress.positions.items()}
        ended, drawn = list(progress.ended), {}
        for stream in range(self.limits.streams):
            if ended[stream]:
                continue
            name = source_at(phase, step, self.seed, stream=stream, streams=self.limits.streams)
            at = positions[name][stream]
            if at.epoch > 0 and not self._sources[name].repeat:
                ended[stream] = True
                continue
            block = self._block(name, stream, at)
            drawn[stream] = (name, at.epoch, block[at.batch])
            positions[name][stream] = self._next(name, stream, at, len(block))
        done = {name: tuple(streams) for name, streams in positions.items()}
        return drawn, SamplerProgress(progress.step + 1, done, tuple(ended))

    def _next(self, name: str, stream: int, at: Position, batches: int) -> Position:
        if at.batch + 1 < batches:
            return Position(at.epoch, at.block, at.batch + 1)
        if at.block + 1 < self._order(name, at.epoch).num_blocks(stream):
            return Position(at.epoch, at.block + 1, 0)
        return Position(at.epoch + 1, 0, 0)

    def _key(
        self, name: str, epoch: int, batch: NDArray[np.int64], step: int, step_frames: int, *, augment: bool
    ) -> BatchKey:
        return BatchKey(name, epoch, self._sources[name].places(batch), augment, step, step_frames)

    def _block(self, name: str, stream: int, at: Position) -> list[NDArray[np.int64]]:
        key = (name, stream)
        found = self._blocks.get((*key, at.epoch, at.block))
        if found is None:
            found = self._order(name, at.epoch).batches(stream, at.block, self._lengths[name])
            self._blocks.put((*key, at.epoch, at.block), found, 1)
        return found

    def _order(self, name: str, epoch: int) -> EpochOrder:
        found = self._orders.get((name, epoch))
        if found is None:
            source = self._sources[name]
            found = EpochOrder(
                source.group_sizes, self.limits, seed=self.seed, epoch=epoch, fingerprint=source.fingerprint
            )
            self._orders.put((name, epoch), found, 1)
        return found
