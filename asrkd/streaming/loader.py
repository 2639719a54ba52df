"""The loader: an endless, resumable stream of batches from a mixture of sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asrkd import fingerprint
from asrkd.corpus.augment import Augment
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError, MismatchError
from asrkd.prefetch import Prefetch
from asrkd.streaming.batch import Batch, collate
from asrkd.streaming.mixture import Mixture, check_mixture, source_at
from asrkd.streaming.plan import EpochPlan, plan_epoch
from asrkd.streaming.source import Source
from asrkd.streaming.utterances import UtteranceReader

STATE_FORMAT = "asrkd/loader-v1"


@dataclass(frozen=True)
class Progress:
    """How far a stream has come: global batches so far, and (epoch, next batch) of each source."""

    step: int
    positions: Mapping[str, tuple[int, int]]


class Loader:
    """Batches of features and targets from a mixture of sources.

    The order of global batches is a pure function of (seed, sources, limits, mixtures so far). Ranks deal them: in each
    round of `world_size` global batches, rank r prepares the r-th and skips the others, so any number of ranks sees the
    same batches, and a state saved by one number of ranks is continued by another.

    Args:
        sources: name -> source; the name must be the source's own.
        front_end: the student's. Its frame law must be the stores'.
        subsampling_factor: the student's; None for that of the sources with targets (1 if none has any).
        max_frames: budget of a batch in padded frames of the front end: utterances * frames of the longest.
        max_utterances: most utterances in a batch.
        seed: of order and augmentation.
        augment: of samples and features; None for none.
        rank, world_size: this process and how many there are.
        block_utterances: utterances among which batches are made (see `plan_epoch`).
        prefetch: batches that a background thread prepares ahead; 0 prepares them in the caller's thread.
        cache_mb: memory for clean samples or features, so that a small corpus is decoded once.

    Raises:
        MismatchError: a source has another frame law, sampling rate, front end (stored features) or other units.
        ConfigError: a setting that cannot be used.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        front_end: FrontEnd,
        subsampling_factor: int | None = None,
        max_frames: int,
        max_utterances: int,
        seed: int = 0,
        augment: Augment | None = None,
        rank: int = 0,
        world_size: int = 1,
        block_utterances: int = 2048,
        prefetch: int = 4,
        cache_mb: float = 1024,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank}, but must be within 0..{world_size - 1}, the ranks of {world_size}")
        self.sources = dict(sources)
        self._seed, self._rank, self._world_size, self._prefetch = seed, rank, world_size, prefetch
        self._limits = {
            "max_frames": max_frames,
            "max_utterances": max_utterances,
            "block_utterances": block_utterances,
        }
        if subsampling_factor is None:
            labeled = [source.store.identity for source in self.sources.values() if source.store.identity.codec]
            subsampling_factor = labeled[0].subsampling_factor if labeled else 1
        augment = augment or Augment()
        self._reader = UtteranceReader(
            front_end=front_end,
            subsampling_factor=subsampling_factor,
            augment=augment,
            seed=seed,
            cache_mb=cache_mb,
        )
        self._check_sources()
        self._fingerprints = {f"source {name}": source.fingerprint for name, source in sorted(self.sources.items())}
        self._fingerprints["limits"] = fingerprint.of_json(self._limits)
        self._fingerprints["front end"] = front_end.fingerprint
        self._fingerprints["augmentation"] = augment.fingerprint
        self._progress = Progress(0, {name: (0, 0) for name in self.sources})
        self._running: Prefetch[tuple[Progress, Batch]] | None = None
        self._current: object = None

    def batches(self, mixture: Mixture) -> Iterator[Batch]:
        """This rank's batches from where the stream stands, without end (unless a source does not repeat).

        A stream that ends does so after a whole round of `world_size` batches. Call again with another mixture at a
        change of phase: the sources go on where they are. A call ends the iterator of an earlier one.

        Args:
            mixture: source name -> its share, a whole number of batches.

        Raises:
            ConfigError: a share or name that cannot be used.
            MismatchError, StoreError: from reading, raised here even if they arise in the background thread.
        """
        check_mixture(mixture, self.sources)
        self.close()
        produced = self._produce({name: share for name, share in mixture.items() if share}, self._progress)
        items: Iterator[tuple[Progress, Batch]] = produced
        if self._prefetch:
            items = self._running = Prefetch(produced, self._prefetch)
        self._current = items
        return self._consume(items)

    def epoch(self, name: str, number: int = 0) -> Iterator[Batch]:
        """This rank's batches of one epoch of a source, without augmentation; the stream's state stays as it is.

        For validation: each utterance comes on exactly one rank; ranks may have one batch more or less than others.
        """
        check_mixture({name: 1}, self.sources)
        plan = self._plan(name, number)
        for batch in range(self._rank, len(plan), self._world_size):
            yield self._read(name, number, plan, batch, augment=False)

    def batches_per_epoch(self, name: str, number: int = 0) -> int:
        """Global batches in one epoch of a source."""
        check_mixture({name: 1}, self.sources)
        return len(self._plan(name, number))

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands after the batch handed out last: integers and fingerprints, fit for JSON.

        The same on all ranks that have taken the same number of batches.
        """
        positions = {
            name: {"epoch": epoch, "batch": batch} for name, (epoch, batch) in sorted(self._progress.positions.items())
        }
        return {
            "format": STATE_FORMAT,
            "seed": self._seed,
            "step": self._progress.step,
            "sources": positions,
            "fingerprints": dict(self._fingerprints),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where a state was taken; the next `batches` gives exactly what would have come next.

        Raises:
            MismatchError: naming what differs (a source, the limits, the front end, the augmentation, the seed).
        """
        if state.get("format") != STATE_FORMAT:
            found = state.get("format")
            raise MismatchError(f"the loader state has the format {found!r}, but must be {STATE_FORMAT!r}")
        if state["seed"] != self._seed:
            raise MismatchError(f"the loader state has the seed {state['seed']}, but this loader {self._seed}")
        theirs = state["fingerprints"]
        for name in sorted({*theirs, *self._fingerprints}):
            if theirs.get(name) != self._fingerprints.get(name):
                raise MismatchError(
                    f"the loader state was taken with another {name} ({theirs.get(name, 'none')}, now "
                    f"{self._fingerprints.get(name, 'none')}), so its position means nothing here; resume with the "
                    "data and settings of the earlier run, or start a new run"
                )
        self.close()
        positions = {name: (value["epoch"], value["batch"]) for name, value in state["sources"].items()}
        self._progress = Progress(state["step"], positions)

    def close(self) -> None:
        """End the background thread; the state stays."""
        if self._running is not None:
            self._running.close()
            self._running = None
        self._current = None

    def _consume(self, items: Iterator[tuple[Progress, Batch]]) -> Iterator[Batch]:
        try:
            while self._current is items and (item := next(items, None)) is not None:
                # Before the yield: what the caller holds counts as consumed, what waits in the queue does not.
                self._progress, batch = item
                yield batch
        finally:
            if isinstance(items, Prefetch):
                items.close()

    def _produce(self, mixture: Mixture, progress: Progress) -> Iterator[tuple[Progress, Batch]]:
        current: dict[str, tuple[int, EpochPlan]] = {}
        while True:
            positions, turns = dict(progress.positions), []
            for offset in range(self._world_size):
                name = source_at(mixture, progress.step + offset, self._seed)
                epoch, number = positions[name]
                if epoch > 0 and not self.sources[name].repeat:
                    return
                if name not in current or current[name][0] != epoch:
                    current[name] = (epoch, self._plan(name, epoch))
                plan = current[name][1]
                turns.append((name, epoch, plan, number))
                positions[name] = (epoch, number + 1) if number + 1 < len(plan) else (epoch + 1, 0)
            progress = Progress(progress.step + self._world_size, positions)
            yield progress, self._read(*turns[self._rank], augment=True)

    def _plan(self, name: str, epoch: int) -> EpochPlan:
        source = self.sources[name]
        return plan_epoch(
            self._reader.num_features(source),
            source.groups,
            seed=self._seed,
            epoch=epoch,
            fingerprint=source.fingerprint,
            **self._limits,
        )

    def _read(self, name: str, epoch: int, plan: EpochPlan, number: int, *, augment: bool) -> Batch:
        source = self.sources[name]
        return collate([self._reader.read(source, int(at), epoch=epoch, augment=augment) for at in plan.batch(number)])

    def _check_sources(self) -> None:
        if not self.sources:
            raise ConfigError("a loader needs at least one source")
        units: dict[str, tuple[str, ...]] = {}
        for name, source in self.sources.items():
            if name != source.name:
                raise ConfigError(f"source {source.name!r} is given to the loader as {name!r}; use one name")
            self._reader.check(source)
            self._plan(name, 0)  # refuses limits that do not fit the source before any step is taken
            if source.units:
                units[name] = source.units
        if len(set(units.values())) > 1:
            names = ", ".join(f"{name} ({len(those)} units)" for name, those in units.items())
            raise MismatchError(f"the sources have different output units: {names}; one student cannot learn from both")
