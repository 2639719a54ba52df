"""The loader: a resumable stream of global batches from a mixture of sources, the same for any number of ranks and workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from asrkd import fingerprint
from asrkd.config import check, setting
from asrkd.corpus.augment import Augment
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import AsrkdError, ConfigError, MismatchError
from asrkd.prefetch import Prefetch
from asrkd.processes import leave_when_done, starting
from asrkd.streaming.batch import Batch
from asrkd.streaming.mixture import Mixture, Phase, check_mixture, check_phases, endless
from asrkd.streaming.plan import BatchConfig
from asrkd.streaming.reading import BatchReader, Caught, Failure
from asrkd.streaming.sampler import BatchKey, Sampler, SamplerProgress
from asrkd.streaming.source import Source
from asrkd.streaming.state import BatchKeys, from_state, to_state
from asrkd.streaming.utterances import UtteranceReader
from asrkd.targets.streams import POSTERIORS


@dataclass
class LoaderConfig:
    """How batches are read, which changes no batch."""

    num_workers: int = setting(0, at_least=0)
    """Processes that read batches; 0 reads in a thread."""
    prefetch: int = setting(4, at_least=1)
    """Batches that each worker, or the thread, prepares ahead."""
    cache_mb: float = setting(1024.0, at_least=0)
    """Memory for decoded audio or features, in MB, shared among the workers."""
    unpack_on_device: bool = False
    """Keep targets packed until they are on the device."""
    features_on_device: bool = False
    """Send samples, and compute the filterbank and what follows it on the device, for a whole batch at once; for stores that embed audio."""
    disk_cache: str = ""
    """Local folder that caches row groups of stores on an object store; an empty name disables it."""
    disk_cache_gb: float = setting(50.0, above=0)
    """Size of that folder, in GB."""

    def __post_init__(self) -> None:
        check(self, "loader")


class Loader:
    """Global batches of features and targets from a mixture of sources.

    The order of utterances is a pure function of (seed, sources, limits, schedule). Each global batch has one batch of every virtual
    stream; ranks deal the streams, so any number of ranks up to `streams` sees the same global batches, and a state saved by one
    number of ranks or workers is continued by another.

    Args:
        sources: name -> source; the name must be the source's own.
        front_end: the student's. Its frame law must be the stores'.
        subsampling_factor: the student's; None for that of the sources with targets (1 if none has any).
        max_frames: budget of a batch in padded frames of the front end: utterances * frames of the longest.
        max_utterances: most utterances in a batch.
        streams: virtual streams; a global batch has a batch of each, whatever the number of ranks.
        seed: of order and augmentation.
        augment: of samples and features; None for none.
        rank, world_size: this process and how many there are; at most one rank a stream.
        block_utterances: utterances of a stream among which batches are made (see `plan.EpochOrder`). Each process that reads holds one
            such block of every stream of this rank in memory, as stored.
        num_workers: processes that read; with 0 a background thread does.
        prefetch: batches prepared ahead, by each worker or by the thread; 0 (without workers) prepares them in the caller's thread.
        cache_mb: memory for clean samples or features, so that a small corpus is decoded once; shared out among the workers.
        unpack_on_device: leave targets packed until `Batch.to`, which unpacks them on the device: for a GPU that takes in frames
            faster than the readers' cores unpack them (a few hundred thousand a second on each).
        features_on_device: leave the filterbank, mean subtraction, stacking and augmentation of features to `Batch.to`; samples are augmented
            here. Random numbers are the same ones, and features equal but for float32 rounding.
        pin_memory: page-locked memory for batches, for faster copies to a GPU (with workers).

    Raises:
        MismatchError: a source has another frame law, sampling rate, front end (stored features) or other units.
        ConfigError: a setting that cannot be used.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        front_end: AnyFrontEnd,
        subsampling_factor: int | None = None,
        max_frames: int,
        max_utterances: int,
        streams: int = BatchConfig.streams,
        seed: int = 0,
        augment: Augment | None = None,
        rank: int = 0,
        world_size: int = 1,
        block_utterances: int = BatchConfig.block_utterances,
        num_workers: int = LoaderConfig.num_workers,
        prefetch: int = LoaderConfig.prefetch,
        cache_mb: float = LoaderConfig.cache_mb,
        unpack_on_device: bool = LoaderConfig.unpack_on_device,
        features_on_device: bool = LoaderConfig.features_on_device,
        pin_memory: bool = False,
    ) -> None:
        if num_workers < 0 or prefetch < (1 if num_workers else 0):
            raise ConfigError(
                f"num_workers is {num_workers} and prefetch {prefetch}, but neither may be negative, and workers need a "
                "prefetch of at least 1"
            )
        self.sources = dict(sources)
        if subsampling_factor is None:
            labeled = [
                source.store.identity for source in self.sources.values() if POSTERIORS in source.store.identity.streams
            ]
            subsampling_factor = labeled[0].subsampling_factor if labeled else 1
        augment = augment or Augment()
        utterances = UtteranceReader(
            front_end=front_end,
            subsampling_factor=subsampling_factor,
            augment=augment,
            seed=seed,
            cache_mb=cache_mb / max(num_workers, 1),
            unpack=not unpack_on_device,
            filterbank=not features_on_device,
        )
        _check_sources(self.sources, utterances)
        limits = BatchConfig(max_frames, max_utterances, streams, block_utterances)
        self.sampler = Sampler(
            self.sources,
            {name: utterances.num_features(source) for name, source in self.sources.items()},
            {name: utterances.num_frames(source) for name, source in self.sources.items()},
            limits,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        for source in self.sources.values():
            source.make_room(block_utterances, len(range(rank, streams, world_size)))
        self.reader = BatchReader({name: source.rows for name, source in self.sources.items()}, utterances)
        self.fingerprints = {f"source {name}": source.fingerprint for name, source in sorted(self.sources.items())}
        self.fingerprints["limits"] = fingerprint.of_json(vars(limits))
        self.fingerprints["front end"] = front_end.fingerprint
        self.fingerprints["augmentation"] = augment.fingerprint
        self._num_workers, self._prefetch, self._pin_memory = num_workers, prefetch, pin_memory
        self._progress = self.sampler.start()
        self._workers: torch.utils.data.DataLoader[Batch] | None = None
        self._sent: deque[tuple[int, SamplerProgress]] = deque()
        self._planned: Iterator[tuple[list[BatchKey], SamplerProgress]] = iter(())
        self._current: Iterator[Any] | None = None
        self._lent = False

    def steps(self, schedule: Mixture | Sequence[Phase]) -> Iterator[list[Batch]]:
        """This rank's batches of each global batch, from where the stream is.

        A batch's `step_frames` are the output frames of the whole global batch, over all ranks: its mean loss times
        `num_frames.sum() / step_frames`, summed over a rank's batches and over ranks, is the mean of the global batch.

        Args:
            schedule: phases, or the shares of one mixture (source name -> whole number of batches) without end. Given in
                another call, the sources continue where they are. A call ends the iterator of an earlier one.

        Yields:
            One batch of each of this rank's streams; fewer at the end of sources that do not repeat.

        Raises:
            ConfigError: a share or name that cannot be used.
            MismatchError, StoreError: from reading, raised here even if they arise in a worker.
            AsrkdError: a worker process died.
        """
        phases = _phases(schedule, self.sources)
        self._end_iterator()
        planned = self.sampler.steps(phases, self._progress)
        items: Iterator[tuple[SamplerProgress, list[Batch | Failure]]]
        if self._num_workers:
            items = self._from_workers(planned)
        else:
            items = ((progress, [self.reader[key] for key in keys]) for keys, progress in planned)
            if self._prefetch:
                items = Prefetch(items, self._prefetch)
        self._current = items
        return self._consume(items)

    def epoch(self, name: str, number: int = 0) -> Iterator[Batch]:
        """This rank's batches of one epoch of a source, without augmentation; the stream's state stays as it is.

        For validation: each utterance comes on exactly one rank; ranks may have one batch more or less than others. Read in this
        process.
        """
        check_mixture({name: 1}, self.sources)
        for key in self.sampler.epoch(name, number):
            yield self.reader[key]

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is after the global batch handed out last: integers and fingerprints, fit for JSON.

        The same on all ranks that have taken the same number of global batches.

        Raises:
            ConfigError: a DataLoader of the caller's own reads from this loader (`keys`), so its place is not known here.
        """
        if self._lent:
            raise ConfigError(
                "batches are read from this loader by a DataLoader of your own, ahead of what you have seen, so the loader does not "
                "know its place; take the state of a torchdata StatefulDataLoader, or use Loader.steps with num_workers"
            )
        return to_state(self._progress, self.sampler.seed, self.fingerprints)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where a state was taken; the next `steps` gives exactly what would have come next.

        Raises:
            MismatchError: naming what differs (a source, the limits, the front end, the augmentation, the seed).
        """
        progress = from_state(state, self.sampler.seed, self.fingerprints)
        self._end_iterator()
        self._progress, self._lent = progress, False

    def close(self) -> None:
        """End the workers or the background thread; the state stays."""
        self._end_iterator()
        self._workers = None

    def _end_iterator(self) -> None:
        """End the iterator of the last call of `steps`; workers stay for the next."""
        if isinstance(self._current, Prefetch):
            self._current.close()
        self._current = None

    def keys(self, schedule: Mixture | Sequence[Phase]) -> BatchKeys:
        """A sampler for a DataLoader of your own, with `reader` as its dataset:

            StatefulDataLoader(loader.reader, sampler=loader.keys(schedule), batch_size=None, num_workers=4)

        It gives `Batch` after `Batch`; the state is then that DataLoader's, and not this loader's.
        """
        self._lent = True
        return BatchKeys(self.sampler, _phases(schedule, self.sources), self._progress, self.fingerprints)

    def _consume(self, items: Iterator[tuple[SamplerProgress, list[Batch | Failure]]]) -> Iterator[list[Batch]]:
        try:
            while self._current is items and (item := next(items, None)) is not None:
                progress, read = item
                batches = [_batch(one) for one in read]
                # Before the yield: what the caller holds counts as consumed, what waits in the queue does not.
                self._progress = progress
                yield batches
        finally:
            if isinstance(items, Prefetch):
                items.close()

    def _from_workers(
        self, planned: Iterator[tuple[list[BatchKey], SamplerProgress]]
    ) -> Iterator[tuple[SamplerProgress, list[Batch | Failure]]]:
        sent = self._sent = deque()
        self._planned = planned
        if self._workers is None:
            self._workers = torch.utils.data.DataLoader(
                Caught(self.reader),  # type: ignore[arg-type]
                sampler=_Sent(self),
                batch_size=None,
                num_workers=self._num_workers,
                prefetch_factor=self._prefetch,
                persistent_workers=True,
                # A fork would copy the locks of threads that are at work.
                multiprocessing_context="spawn",
                worker_init_fn=leave_when_done,
                pin_memory=self._pin_memory,
            )
        waiting: list[Batch | Failure] = []
        with starting():
            batches, more = iter(self._workers), True
        while True:
            # A step is known once its first key was sent, which asking for an earlier batch does.
            while more and (not sent or len(waiting) < sent[0][0]):
                try:
                    waiting.append(next(batches))
                except StopIteration:
                    more = False
                except RuntimeError as error:
                    self._workers = None
                    if "DataLoader worker" not in str(error):
                        raise
                    raise AsrkdError(
                        f"a worker process of the loader died ({error}); it may have run out of memory: use fewer workers, or less "
                        "cache_mb and block_utterances. The state before this step is whole"
                    ) from None
            if not sent:
                return
            count, progress = sent.popleft()
            yield progress, [waiting.pop(0) for _ in range(count)]


class _Sent:
    """The keys that the workers are sent, and a note of how many make a step."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[BatchKey]:
        sent = self._loader._sent
        for keys, progress in self._loader._planned:
            sent.append((len(keys), progress))
            yield from keys


def _phases(schedule: Mixture | Sequence[Phase], sources: Mapping[str, Source]) -> list[Phase]:
    phases = endless(schedule) if isinstance(schedule, Mapping) else list(schedule)
    check_phases(phases, sources)
    return phases


def _batch(read: Batch | Failure) -> Batch:
    if isinstance(read, Failure):
        raise read.error
    return read


def _check_sources(sources: Mapping[str, Source], utterances: UtteranceReader) -> None:
    if not sources:
        raise ConfigError("a loader needs at least one source")
    units: dict[str, tuple[str, ...]] = {}
    for name, source in sources.items():
        if name != source.name:
            raise ConfigError(f"source {source.name!r} is given to the loader as {name!r}; use one name")
        utterances.check(source)
        if source.rows.units:
            units[name] = source.rows.units
    if len(set(units.values())) > 1:
        names = ", ".join(f"{name} ({len(those)} units)" for name, those in units.items())
        raise MismatchError(f"the sources have different output units: {names}; one student cannot learn from both")
