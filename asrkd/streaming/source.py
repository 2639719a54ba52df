"""A source: the utterances of one store that a run trains on."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrkd import fingerprint
from asrkd.errors import ConfigError, StoreError
from asrkd.store.catalog import open_index
from asrkd.store.reader import Store
from asrkd.streaming.disk_cache import DiskCache
from asrkd.streaming.rows import Place, SourceRows
from asrkd.streaming.selection import Filter, Selection
from asrkd.targets.frame_rate_map import FrameRateMap
from asrkd.targets.streams import POSTERIORS, TOKENS
from asrkd.targets.vocabulary_map import VocabularyMap

_log = logging.getLogger(__name__)


class Source:
    """Utterances of one store, filtered: their places and lengths, from the index columns alone.

    Utterances without a single frame are left out. Lengths and places are looked up in the store's catalog, which is mapped into memory; without
    one the index columns of every shard are read once, some 12 bytes an utterance. Of a store that was opened by a snapshot only the units
    that it pins are seen, whatever is labeled meanwhile. A shard that changes from now on is refused when it is read.

    Attributes:
        name: as it appears in mixtures and batches.
        store: the opened store.
        rows: reads the utterances.
        repeat: whether the source starts afresh at its end; otherwise a stream ends with it.
        num_frames: (U,) output frames of each utterance, looked up by position.
        num_too_long: utterances left out by `max_seconds` alone.
        fingerprint: of the store's identity, of the utterances' places and lengths, and of the maps.

    Args:
        filter: which utterances; None for all.
        cache_mb: memory for row groups in each process that reads; None for as much as the blocks of a loader need.
        vocabulary_map: from the store's classes to the student's, None if they are the same.
        frame_rate_map: from the store's frames to the student's, None if they are the same.
        audio: a lhotse manifest (JSON Lines) with the audio of a store that embeds none, joined by id.
        disk_cache: of row groups and of the catalog, for an object store.
        streams: of targets, to read; posteriors where they are there, others must be.
        max_seconds: the longest utterance that the student takes; longer ones are left out.

    Raises:
        StoreError: no shard is finished, or one cannot be read.
        MismatchError: a shard does not belong to its store, or changed since the catalog was written.
        CorpusError: `audio` is not a manifest.
        ConfigError: no utterance is left by `filter`.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        *,
        filter: Filter | None = None,
        repeat: bool = True,
        cache_mb: float | None = None,
        vocabulary_map: VocabularyMap | None = None,
        frame_rate_map: FrameRateMap | None = None,
        audio: str = "",
        disk_cache: DiskCache | None = None,
        streams: Sequence[str] = (POSTERIORS,),
        max_seconds: float = math.inf,
    ) -> None:
        self.name, self.repeat = name, repeat
        self.store = store
        for stream in set(streams) - {POSTERIORS}:
            codec = store.identity.streams.get(stream)
            if codec is None or (codec.by_frame and frame_rate_map):
                raise ConfigError(
                    f"source {name!r}: {stream} targets are wanted, but the store {store.root!r} has none, or a frame-rate map would "
                    "leave them behind; label it with them (hidden: --layer), for a student of the teacher's frame rate"
                )
        joined = None
        if audio:  # read by lhotse, which most stores do without
            from asrkd.streaming.joined_audio import JoinedAudio

            joined = JoinedAudio(audio)
        self.rows = SourceRows(
            name,
            self.store,
            vocabulary_map=vocabulary_map,
            frame_rate_map=frame_rate_map,
            joined_audio=joined,
            cache_bytes=int((cache_mb or 0) * 1e6),
            disk_cache=disk_cache,
            streams=streams,
        )
        self._cache_mb = cache_mb
        chosen = filter or Filter()
        if chosen.text_columns() and TOKENS not in store.identity.streams:
            raise ConfigError(
                f"source {name!r}: is filtered by {', '.join(chosen.text_columns())}, but the store {store.root!r} is of no text teacher, so it has no "
                "such column; filter it by others"
            )
        index, shards = open_index(
            store, list(dict.fromkeys(["num_frames", "duration", *chosen.columns()])), disk_cache
        )
        if not shards.any():
            raise StoreError(f"store {store.root!r} has no finished shard yet; run asrkd label run first")
        # The plan is made from these shards: a reader that meets another one refuses it.
        store.expect(index.shards[shards])
        self._selection = Selection(index, shards, chosen)
        num_chosen = len(self._selection)
        longest = store.identity.frame_law.lengths_of(self._selection.num_frames.max())[1]
        if longest > max_seconds * store.identity.front_end.sampling_rate:
            low, high = chosen.bounds.get("duration", (None, None))
            high = max_seconds if high is None else min(high, max_seconds)
            chosen = dataclasses.replace(chosen, bounds={**chosen.bounds, "duration": (low, high)})
            self._selection = Selection(index, shards, chosen)
        self.num_too_long = num_chosen - len(self._selection)
        if not len(self._selection):
            raise ConfigError(
                f"source {name!r}: of {self._selection.available} utterances in {store.root!r} none is left by the filter {chosen}; "
                "loosen the filter"
            )
        self.num_frames = self._selection.num_frames
        content = [name, self.store.identity.fingerprint, self._selection.fingerprint]
        content += [vocabulary_map.fingerprint] if vocabulary_map else []
        content += [frame_rate_map.spec] if frame_rate_map else []
        content += [joined.fingerprint] if joined else []
        self.fingerprint = fingerprint.of_json(content)

    def __len__(self) -> int:
        return len(self._selection)

    @property
    def group_sizes(self) -> NDArray[np.int64]:
        """(G,) int64 utterances in each row group that has any, in storage order."""
        return np.diff(self._selection.group_edges)

    @functools.cached_property
    def hours(self) -> float:
        """Of audio."""
        return self._selection.seconds() / 3600.0

    def places(self, positions: NDArray[np.integer]) -> list[Place]:
        """Where utterances are in the store: work unit, row group, row."""
        return self._selection.places(positions)

    def make_room(self, utterances: int, streams: int) -> None:
        """Let memory hold the row groups of a block of `utterances` for each of these streams.

        Batches of a block draw from all its row groups; one that is not in memory is read again for a few utterances.
        """
        num_groups = len(self._selection.group_edges) - 1
        groups = (utterances / (len(self) / num_groups) + 2) * streams
        needed = int(min(groups, num_groups) * self._selection.group_bytes())
        if self._cache_mb is None:
            self.rows.resize(needed)
        elif self._cache_mb * 1e6 < needed:
            _log.warning(
                "source %r: its blocks of %d utterances take about %d MB, and cache_mb is %g, so row groups are read again and again; raise "
                "cache_mb or lower block_utterances",
                self.name,
                utterances,
                needed // 1_000_000,
                self._cache_mb,
            )

    def facts(self, position: int) -> dict[str, Any]:
        """See `SourceRows.facts`, for one utterance by its position in the index."""
        return self.rows.facts(self.places(np.array([position]))[0])
