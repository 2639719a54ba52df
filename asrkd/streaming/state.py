"""The state of a stream: integers and fingerprints; and a sampler with that state for DataLoaders of torch and torchdata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asrkd.errors import ConfigError, MismatchError
from asrkd.streaming.mixture import Phase
from asrkd.streaming.sampler import BatchKey, Sampler, SamplerProgress

STATE_FORMAT = "asrkd/loader-v2"


def to_state(progress: SamplerProgress, seed: int, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """What continues a stream after `progress`, fit for JSON."""
    return {"format": STATE_FORMAT, "seed": seed, **progress.to_dict(), "fingerprints": dict(fingerprints)}


def from_state(state: Mapping[str, Any], seed: int, fingerprints: Mapping[str, str]) -> SamplerProgress:
    """The progress of a state.

    Raises:
        MismatchError: naming what differs (format, seed, a source, the limits, the front end, the augmentation).
    """
    if state.get("format") != STATE_FORMAT:
        found = state.get("format")
        raise MismatchError(f"the loader state has the format {found!r}, but must be {STATE_FORMAT!r}")
    if state["seed"] != seed:
        raise MismatchError(f"the loader state has the seed {state['seed']}, but this loader {seed}")
    theirs = state["fingerprints"]
    for name in sorted({*theirs, *fingerprints}):
        if theirs.get(name) != fingerprints.get(name):
            raise MismatchError(
                f"the loader state was taken with another {name} ({theirs.get(name, 'none')}, now "
                f"{fingerprints.get(name, 'none')}), so its position means nothing here; resume with the "
                "data and settings of the earlier run, or start a new run"
            )
    return SamplerProgress.from_dict(state)


class BatchKeys:
    """The keys of one rank's batches, one after another: a sampler (with `batch_size=None`).

    Its iterator has the state, which torchdata's StatefulDataLoader takes with the key that it belongs to. It does not begin a
    second time unnoticed: a new iterator gives keys only once a state was loaded into it.
    """

    def __init__(
        self, sampler: Sampler, schedule: Sequence[Phase], progress: SamplerProgress, fingerprints: Mapping[str, str]
    ) -> None:
        self.sampler, self.schedule, self.progress, self.fingerprints = sampler, schedule, progress, fingerprints
        self.taken = False

    def __iter__(self) -> KeyIterator:
        return KeyIterator(self)


class KeyIterator:
    """Iterates over `BatchKeys`; see there."""

    def __init__(self, keys: BatchKeys) -> None:
        self._keys = keys
        self._progress, self._offset = keys.progress, 0
        self._steps: Iterator[tuple[list[BatchKey], SamplerProgress]] | None = None
        self._step: tuple[list[BatchKey], SamplerProgress] = ([], keys.progress)
        self._loaded = False

    def __iter__(self) -> KeyIterator:
        return self

    def __next__(self) -> BatchKey:
        if self._steps is None:
            if self._keys.taken and not self._loaded:
                raise ConfigError(
                    "these batches were taken before, and a second pass would begin from zero again; load the state of the "
                    "DataLoader (StatefulDataLoader.load_state_dict), or make new keys (Loader.keys) to start afresh"
                )
            self._keys.taken = True
            self._steps = self._keys.sampler.steps(self._keys.schedule, self._progress)
            if self._offset:
                self._step = next(self._steps)
        while self._offset == len(self._step[0]):
            self._progress, self._offset = self._step[1], 0
            self._step = next(self._steps)
        self._offset += 1
        return self._step[0][self._offset - 1]

    def state_dict(self) -> dict[str, Any]:
        """The state after the last key; `offset` are the batches of the current global batch that were taken.

        Within a global batch, it is for the same number of ranks only.
        """
        keys, after = self._step
        progress, offset = (after, 0) if self._offset == len(keys) and keys else (self._progress, self._offset)
        state = to_state(progress, self._keys.sampler.seed, self._keys.fingerprints)
        return state | {"offset": offset, "world_size": self._keys.sampler.world_size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after a state.

        Raises:
            MismatchError: see `from_state`; or a state within a global batch that was dealt to another number of ranks.
        """
        progress = from_state(state, self._keys.sampler.seed, self._keys.fingerprints)
        if state["offset"] and state["world_size"] != self._keys.sampler.world_size:
            raise MismatchError(
                f"the state was taken within a global batch of {state['world_size']} ranks, and there are {self._keys.sampler.world_size} "
                "now; take it after a whole global batch, or resume with as many ranks"
            )
        self._progress, self._offset = progress, state["offset"]
        self._steps, self._step, self._loaded = None, ([], progress), True
