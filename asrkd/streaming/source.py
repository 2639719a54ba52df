"""A source: the utterances of one store that a run trains on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asrkd import fingerprint
from asrkd.config import is_pair
from asrkd.errors import ConfigError
from asrkd.store.reader import Store
from asrkd.streaming.disk_cache import DiskCache
from asrkd.streaming.joined_audio import JoinedAudio
from asrkd.streaming.rows import Place, SourceRows
from asrkd.targets.frame_rate_map import FrameRateMap
from asrkd.targets.vocabulary_map import VocabularyMap

_log = logging.getLogger(__name__)
# Whose footers say how large a row group is.
_SAMPLED_SHARDS = 8
BOUNDED = ("duration", "num_frames", "kept_mass", "entropy", "confidence")


@dataclass(frozen=True)
class Filter:
    """Which utterances of a store a source uses.

    Attributes:
        bounds: column -> (lowest, highest), both inclusive, None for no bound; columns are `duration` (seconds),
            `num_frames`, `kept_mass`, `entropy` (nats) and `confidence`. An utterance without a value is left out.
        ids: only these utterances; None for all.
        speakers: only utterances of these speakers; None for all.
    """

    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    ids: frozenset[str] | None = None
    speakers: frozenset[str] | None = None

    def __post_init__(self) -> None:
        for column, pair in self.bounds.items():
            if column not in BOUNDED:
                raise ConfigError(f"a source cannot be filtered by {column!r}; choose from {', '.join(BOUNDED)}")
            if not is_pair(pair):
                raise ConfigError(
                    f"the bounds of {column!r} are {pair!r}, but must be a lowest and a highest value, None for none"
                )

    def columns(self) -> list[str]:
        """The index columns that the filter looks at."""
        return [*self.bounds, *self._members()]

    def mask(self, index: pa.Table) -> np.ndarray:
        """(rows,) bool: which rows of an index stay."""
        keep = np.ones(len(index), dtype=bool)
        for column, (low, high) in self.bounds.items():
            # A missing value becomes NaN, which is neither above nor below anything.
            values = index[column].cast(pa.float64()).to_numpy()
            keep &= (values >= (-np.inf if low is None else low)) & (values <= (np.inf if high is None else high))
        for column, members in self._members().items():
            keep &= pc.is_in(index[column], value_set=pa.array(sorted(members), pa.string())).to_numpy()
        return keep

    def _members(self) -> dict[str, frozenset[str]]:
        chosen = {"id": self.ids, "speaker": self.speakers}
        return {column: members for column, members in chosen.items() if members is not None}


class Source:
    """Utterances of one store, filtered: their places and lengths, from the index columns alone.

    Utterances without a single frame are left out. The index is read once, some 12 bytes an utterance; of a store that was
    opened by a snapshot only the units that it pins are seen, whatever is labeled meanwhile.

    Attributes:
        name: as it appears in mixtures and batches.
        store: the opened store.
        rows: reads the utterances.
        repeat: whether the source begins anew at its end; otherwise a stream ends with it.
        num_frames: (U,) int32 output frames of each utterance.
        group_sizes: (G,) int64 utterances in each row group that has any, in storage order.
        hours: of audio.
        fingerprint: of the store's identity, of the utterances' places and lengths, and of the maps.

    Args:
        filter: which utterances; None for all.
        cache_mb: memory for row groups in each process that reads; None for as much as the blocks of a loader need.
        vocabulary_map: from the store's classes to the student's, None if they are the same.
        frame_rate_map: from the store's frames to the student's, None if they are the same.
        audio: a lhotse manifest (JSON Lines) with the audio of a store that embeds none, joined by id.
        disk_cache: of row groups, for an object store.
        layer: whether to read what the teacher's layer gave.

    Raises:
        MismatchError: a shard does not belong to its store.
        CorpusError: `audio` is no manifest.
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
        layer: bool = False,
    ) -> None:
        self.name, self.repeat = name, repeat
        self.store = store
        if layer and (not self.store.identity.layer or frame_rate_map):
            raise ConfigError(
                f"source {name!r}: what a layer of the teacher gave is wanted, but the store {store.root!r} has none, or a frame-rate map would "
                "leave it behind; label it with --layer, for a student of the teacher's frame rate"
            )
        joined = JoinedAudio(audio) if audio else None
        self.rows = SourceRows(
            name,
            self.store,
            vocabulary_map=vocabulary_map,
            frame_rate_map=frame_rate_map,
            joined_audio=joined,
            cache_bytes=int((cache_mb or 0) * 1e6),
            disk_cache=disk_cache,
            layer=layer,
        )
        self._cache_mb = cache_mb
        chosen = filter or Filter()
        index = self.store.index(list(dict.fromkeys(["num_frames", "duration", *chosen.columns()])))
        keep = chosen.mask(index) & (index["num_frames"].to_numpy() > 0)
        if not keep.any():
            raise ConfigError(
                f"source {name!r}: of {len(index)} utterances in {store.root!r} none is left by the filter {chosen}; "
                "loosen the filter"
            )
        self.hours = float(index["duration"].to_numpy()[keep].sum()) / 3600.0
        self.num_frames, unit, group, self._rows = (
            index[column].to_numpy()[keep].astype(np.int32) for column in ("num_frames", "unit", "row_group", "row")
        )
        begins = np.flatnonzero(np.r_[True, (np.diff(unit) != 0) | (np.diff(group) != 0)])
        self.group_sizes = np.diff(np.r_[begins, len(unit)])
        self._begins, self._groups = begins, np.stack([unit[begins], group[begins]], axis=1)
        content = [name, self.store.identity.fingerprint]
        parts = (self.num_frames, self._rows, self.group_sizes, self._groups)
        content += [fingerprint.of_bytes(np.ascontiguousarray(part, "<i8").tobytes()) for part in parts]
        content += [vocabulary_map.fingerprint] if vocabulary_map else []
        content += [frame_rate_map.spec] if frame_rate_map else []
        content += [joined.fingerprint] if joined else []
        self.fingerprint = fingerprint.of_json(content)

    def __len__(self) -> int:
        return len(self.num_frames)

    def places(self, positions: NDArray[np.integer]) -> list[Place]:
        """Where utterances stand in the store: work unit, row group, row."""
        groups = self._groups[np.searchsorted(self._begins, positions, side="right") - 1]
        rows = self._rows[positions]
        return [(unit, group, row) for (unit, group), row in zip(groups.tolist(), rows.tolist(), strict=True)]

    def make_room(self, utterances: int, streams: int) -> None:
        """Let memory hold the row groups of a block of so many utterances for each of these streams.

        Batches of a block draw from all its row groups; one that is not in memory is read anew for a few utterances.
        """
        groups = (utterances / float(self.group_sizes.mean()) + 2) * streams
        needed = int(min(groups, len(self.group_sizes)) * self._group_bytes())
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

    def _group_bytes(self) -> float:
        """Of a whole row group in memory, from the footers of some shards."""
        sizes = []
        for unit in self.store.units()[:_SAMPLED_SHARDS]:
            footer = self.store.metadata(unit)
            for group in range(footer.num_row_groups):
                sizes.append(footer.row_group(group).total_byte_size)
        return float(np.mean(sizes))

    def facts(self, position: int) -> dict[str, Any]:
        """See `SourceRows.facts`, for one utterance by its position in the index."""
        return self.rows.facts(self.places(np.array([position]))[0])
