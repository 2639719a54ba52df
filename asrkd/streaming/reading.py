"""From the key of a batch to the batch: a dataset for a DataLoader's workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from asrkd.errors import AsrkdError, StoreError
from asrkd.streaming.batch import Batch, collate
from asrkd.streaming.rows import SourceRows
from asrkd.streaming.sampler import BatchKey
from asrkd.streaming.utterances import UtteranceReader


class BatchReader:
    """A map-style dataset from `BatchKey` to `Batch`, without state that batches depend on.

    Args:
        sources: by name.
        utterances: reads one utterance.
    """

    def __init__(self, sources: Mapping[str, SourceRows], utterances: UtteranceReader) -> None:
        self._sources, self._utterances = dict(sources), utterances

    def __getitem__(self, key: BatchKey) -> Batch:
        """The batch of a key.

        Raises:
            MismatchError: a stored number of frames is not what the frame law gives.
            StoreError, CorpusError: a row is damaged, or audio is missing.
        """
        rows = self._sources[key.source]
        rows.fetch(key.places)
        read = [self._utterances.read(rows, at, epoch=key.epoch, augment=key.augment) for at in key.places]
        try:
            return collate(
                read,
                step=key.step,
                step_frames=key.step_frames,
                layouts=rows.store.identity.layouts,
                unpack=self._utterances.unpack,
                vocabulary_map=rows.vocabulary_map,
                front_end=self._utterances.front_end,
                changes=self._utterances.changes,
            )
        except StoreError:
            # One at a time, which names the damaged one.
            for place in key.places:
                rows.targets(rows.facts(place))
            raise


@dataclass(frozen=True)
class Failure:
    """What went wrong in a worker, with its own message rather than a traceback."""

    error: AsrkdError


class Caught:
    """A `BatchReader` that hands failures over as values."""

    def __init__(self, reader: BatchReader) -> None:
        self._reader = reader

    def __getitem__(self, key: BatchKey) -> Batch | Failure:
        try:
            return self._reader[key]
        except AsrkdError as error:
            return Failure(error)
