"""Reads the utterances of a store for alignment: transcripts, and cepstra at 10 ms whatever is embedded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.alignment.features import Cepstra, of_samples, of_stacked
from asrkd.corpus.front_end import FrontEnd, log_mel
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import ConfigError, CorpusError, MismatchError
from asrkd.store import Store
from asrkd.streaming.rows import Place, SourceRows
from asrkd.streaming.utterances import samples_of

# Frames of 10 ms.
_QUIET_START = 30
_CACHE_BYTES = 1 << 28


@dataclass(frozen=True)
class Spoken:
    """An utterance of a store: what it has, and its cepstra."""

    id: str
    text: str | None
    num_frames: int
    cepstra: Cepstra

    @property
    def quiet_start(self) -> bool:
        """Whether it begins with 0.3 s without energy, and is not all of that kind."""
        begin = self.cepstra.spoken[:_QUIET_START]
        return len(self.cepstra) > _QUIET_START and not begin.any()


class Speech:
    """The utterances of a store that embeds audio or features.

    Raises:
        ConfigError: it embeds neither.
    """

    def __init__(self, store: Store) -> None:
        if not store.identity.embedding.column:
            raise ConfigError(
                f"{store.root!r} embeds {store.identity.embed!r}, so there is nothing to align; label the corpus with --embed audio or "
                "--embed features"
            )
        self.store = store
        self.front_end = store.identity.front_end
        self.sampling_rate = self.front_end.sampling_rate
        # Whoever reads in order reads each row group once.
        self._rows = SourceRows(
            "aligned", store, vocabulary_map=None, frame_rate_map=None, joined_audio=None, cache_bytes=_CACHE_BYTES,
            disk_cache=None,
        )  # fmt: skip

    def places(self, unit: int) -> list[Place]:
        """Where the utterances of a work unit are, in order; what is in memory of the units before is let go of."""
        self._rows.resize(_CACHE_BYTES)
        metadata = self.store.metadata(unit)
        return [
            (unit, group, row)
            for group in range(metadata.num_row_groups)
            for row in range(metadata.row_group(group).num_rows)
        ]

    def read(self, place: Place) -> Spoken:
        """One utterance.

        Raises:
            CorpusError: it is too short for one frame of cepstra, or not finite.
            StoreError: what is embedded is damaged.
        """
        facts = self._rows.facts(place)
        try:
            cepstra = self._cepstra(place, facts)
        except CorpusError as error:
            raise CorpusError(f"utterance {facts['id']!r}: {error}") from None
        return Spoken(facts["id"], facts["text"], int(facts["num_frames"]), cepstra)

    def features(self, place: Place, front_end: AnyFrontEnd) -> Tensor:
        """(T, F) clean features of another front end: computed from audio, or as they are stored.

        Raises:
            MismatchError: features of another front end are stored.
            StoreError: what is embedded is damaged.
        """
        facts = self._rows.facts(place)
        if self.store.identity.embedding.column == "audio":
            return front_end(self._samples(place, facts))
        if front_end != self.front_end:
            raise MismatchError(
                f"{self.store.root!r} holds features of the front end {self.front_end}, but the model's is {front_end}; label the corpus again "
                "with --embed audio"
            )
        return self._stored(place, facts)

    def picture(self, place: Place) -> tuple[NDArray[np.float32], float]:
        """(T, num_mels) log-mel values of an utterance, and the seconds from one row to the next."""
        facts = self._rows.facts(place)
        if self.store.identity.embedding.column == "audio":
            settings = FrontEnd(sampling_rate=self.sampling_rate, stack=1, stride=1, mean_norm="none")
            mels = log_mel(settings, self._samples(place, facts)).numpy()
            return mels, settings.frame_law().frame_shift / self.sampling_rate
        front_end = self._stacked()
        # Of the windows stacked into a frame, the first.
        mels = self._stored(place, facts).numpy()[:, : front_end.num_mels]
        return mels, front_end.frame_law().frame_shift / self.sampling_rate

    def id(self, place: Place) -> str:
        """Of the utterance at a place."""
        return str(self._rows.facts(place)["id"])

    def seconds(self, place: Place) -> float:
        """Length of the utterance at a place."""
        return int(self._rows.facts(place)["num_samples"]) / self.sampling_rate

    def all(self) -> Iterator[Place]:
        """Every place, in order."""
        for unit in self.store.walk():
            yield from self.places(unit)

    def _cepstra(self, place: Place, facts: dict[str, Any]) -> Cepstra:
        if self.store.identity.embedding.column == "audio":
            return of_samples(self._samples(place, facts), self.sampling_rate)
        return of_stacked(self._stored(place, facts), self._stacked())

    def _samples(self, place: Place, facts: dict[str, Any]) -> Tensor:
        samples = samples_of(self._rows, place, facts, self.sampling_rate, exact=False, what=self._what(facts))
        return torch.from_numpy(np.array(samples, dtype=np.float32))

    def _stacked(self) -> FrontEnd:
        if not isinstance(self.front_end, FrontEnd):
            raise ConfigError(f"{self.store.root!r} embeds samples of {self.front_end} as features; embed audio")
        return self.front_end

    def _stored(self, place: Place, facts: dict[str, Any]) -> Tensor:
        front_end = self._stacked()
        data = self._rows.payload(place, "features")
        embedding = self.store.identity.embedding
        return torch.from_numpy(embedding.features(data, facts["num_samples"], front_end, self._what(facts)).copy())

    def _what(self, facts: dict[str, Any]) -> str:
        return f"utterance {facts['id']!r} of {self.store.root!r}"
