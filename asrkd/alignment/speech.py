"""Reads the utterances of a store for alignment: transcripts, and cepstra at 10 ms whatever is embedded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from asrkd.alignment.features import Cepstra, of_samples, of_stacked
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError, CorpusError, StoreError
from asrkd.store import Store
from asrkd.streaming.rows import Place, SourceRows
from asrkd.streaming.utterances import samples_of


@dataclass(frozen=True)
class Spoken:
    """An utterance of a store: what it has, and its cepstra."""

    id: str
    text: str | None
    num_frames: int
    cepstra: Cepstra


class Speech:
    """The utterances of a store that embeds audio or features.

    Raises:
        ConfigError: it embeds neither.
    """

    def __init__(self, store: Store) -> None:
        if store.identity.embed not in ("audio", "features"):
            raise ConfigError(
                f"{store.root!r} embeds {store.identity.embed!r}, so there is nothing to align; label the corpus with --embed audio or "
                "--embed features"
            )
        self.store = store
        self.front_end = store.identity.front_end
        self.sampling_rate = self.front_end.sampling_rate
        # A row group at a time: whoever reads in order reads each once.
        self._rows = SourceRows(
            "aligned", store, vocabulary_map=None, frame_rate_map=None, joined_audio=None, cache_bytes=1 << 28,
            disk_cache=None,
        )  # fmt: skip

    def places(self, unit: int) -> list[Place]:
        """Where the utterances of a work unit are, in order."""
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

    def id(self, place: Place) -> str:
        """Of the utterance at a place."""
        return str(self._rows.facts(place)["id"])

    def all(self) -> Iterator[Place]:
        """Every place, in order."""
        for unit in self.store.units():
            yield from self.places(unit)

    def _cepstra(self, place: Place, facts: dict[str, Any]) -> Cepstra:
        what = f"utterance {facts['id']!r} of {self.store.root!r}"
        if self.store.identity.embed == "audio":
            samples = samples_of(self._rows, place, facts, self.sampling_rate, exact=False, what=what)
            return of_samples(torch.from_numpy(np.array(samples, dtype=np.float32)), self.sampling_rate)
        if not isinstance(self.front_end, FrontEnd):
            raise ConfigError(f"{self.store.root!r} embeds samples of {self.front_end} as features; embed audio")
        data = self._rows.payload(place, "features") or b""
        shape = (self.front_end.frame_law().num_features(facts["num_samples"]), self.front_end.feature_dim)
        if len(data) != 4 * shape[0] * shape[1]:
            raise StoreError(f"{what} has {len(data)} bytes of features, not those of {shape[0]} x {shape[1]} float32")
        return of_stacked(torch.from_numpy(np.frombuffer(data, "<f4").reshape(shape).copy()), self.front_end)
