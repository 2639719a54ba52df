"""A map-style view of a source, to look at single utterances."""

from __future__ import annotations

import dataclasses

import numpy as np

from asrkd.corpus.augment import Augment
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import ConfigError
from asrkd.streaming.batch import Utterance
from asrkd.streaming.source import Source
from asrkd.streaming.utterances import UtteranceReader


class UtteranceView:
    """Utterances by position or id, as a student with this front end sees them.

        view = UtteranceView(Source("s", Store.open("store")), FrontEnd())
        view[0].features, view["some-id"].targets.to_dense()

    Args:
        augment: to see what augmentation does, in the given epoch.

    Raises:
        MismatchError, ConfigError: the source does not fit the front end.
    """

    def __init__(
        self,
        source: Source,
        front_end: AnyFrontEnd,
        *,
        subsampling_factor: int | None = None,
        augment: Augment | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        factor = subsampling_factor or source.store.identity.subsampling_factor
        self._source, self._epoch = source, epoch
        self._reader = UtteranceReader(
            front_end=front_end, subsampling_factor=factor, augment=augment or Augment(), seed=seed, cache_mb=0
        )
        self._reader.check(source)
        self._positions: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, which: int | str) -> Utterance:
        """An utterance by its position in the source (negative: from the end) or by its id.

        Raises:
            IndexError: a position that is none, which also ends a `for` loop.
            ConfigError: an id that the source does not have.
            StoreError: the row is damaged.
        """
        if isinstance(which, str):
            which = self._position(which)
        if not -len(self) <= which < len(self):
            raise IndexError(f"position {which} is not within the {len(self)} utterances of {self._source.name!r}")
        place = self._source.places(np.array([which % len(self)]))[0]
        utterance = self._reader.read(self._source.rows, place, epoch=self._epoch)
        if utterance.packed:
            rows = self._source.rows
            utterance = dataclasses.replace(utterance, streams=rows.targets(rows.facts(place)), packed={})
        # The reader's may be the store's own memory.
        return dataclasses.replace(utterance, features=utterance.features.clone())

    def _position(self, utterance_id: str) -> int:
        if self._positions is None:
            places = {place: position for position, place in enumerate(self._source.places(np.arange(len(self))))}
            index = self._source.store.index(["id"])
            rows = zip(*(index[column].to_pylist() for column in ("unit", "row_group", "row", "id")), strict=True)
            self._positions = {key: places[place] for *place_, key in rows if (place := tuple(place_)) in places}
        if utterance_id not in self._positions:
            raise ConfigError(
                f"source {self._source.name!r} has no utterance {utterance_id!r}, or its filter leaves it out"
            )
        return self._positions[utterance_id]
