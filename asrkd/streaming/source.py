"""A source: the utterances of one store that a run trains on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asrkd import fingerprint
from asrkd.errors import ConfigError
from asrkd.store.reader import Store
from asrkd.store.snapshot import open_snapshot
from asrkd.streaming.cache import LruCache
from asrkd.targets.frame_rate_map import FrameRateMap
from asrkd.targets.soft_targets import SoftTargets
from asrkd.targets.vocabulary_map import VocabularyMap

BOUNDED = ("duration", "num_frames", "kept_mass", "entropy", "confidence")
_FACTS = ("id", "num_samples", "num_frames", "duration", "speaker", "text", "custom", "alignment")


@dataclass(frozen=True)
class Filter:
    """Which utterances of a store a source uses.

    Attributes:
        bounds: column -> (lowest, highest), both inclusive, None for no bound; columns are `duration` (seconds),
            `num_frames`, `kept_mass`, `entropy` (nats) and `confidence`. An utterance without a value is left out.
        ids: only these utterances; None for all.
    """

    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    ids: frozenset[str] | None = None

    def __post_init__(self) -> None:
        for column in self.bounds:
            if column not in BOUNDED:
                raise ConfigError(f"a source cannot be filtered by {column!r}; choose from {', '.join(BOUNDED)}")

    def columns(self) -> list[str]:
        """The index columns that the filter looks at."""
        return [*self.bounds, *(["id"] if self.ids is not None else [])]

    def mask(self, index: pa.Table) -> np.ndarray:
        """(rows,) bool: which rows of an index stay."""
        keep = np.ones(len(index), dtype=bool)
        for column, (low, high) in self.bounds.items():
            # A missing value becomes NaN, which is neither above nor below anything.
            values = index[column].cast(pa.float64()).to_numpy()
            keep &= (values >= (-np.inf if low is None else low)) & (values <= (np.inf if high is None else high))
        if self.ids is not None:
            keep &= pc.is_in(index["id"], value_set=pa.array(sorted(self.ids), pa.string())).to_numpy()
        return keep


class Source:
    """Utterances of one store, filtered, read by row group.

    Utterances without a single frame are left out. The index is read once; row groups that were read last stay in
    memory up to `cache_mb`, a small store as a whole.

    Attributes:
        name: as it appears in mixtures and batches.
        store: the opened store.
        repeat: whether the source begins anew at its end; otherwise a stream ends with it.
        num_frames: (U,) int64 output frames of each utterance.
        groups: (U,) int64 number of the row group of each utterance, in storage order.
        hours: of audio.
        vocabulary_map: from the store's classes to the student's, None if they are the same.
        frame_rate_map: from the store's frames to the student's, None if they are the same.
        fingerprint: of the store's identity, of the utterances' places and lengths, and of the maps.

    With the name of a snapshot only the units that it pins are seen, whatever is labeled meanwhile.

    Raises:
        StoreError: there is no store at `root`, or no such snapshot.
        MismatchError: a shard does not belong to its store.
        ConfigError: no utterance is left by `filter`.
    """

    def __init__(
        self,
        name: str,
        root: str,
        *,
        filter: Filter | None = None,
        repeat: bool = True,
        cache_mb: float = 256,
        vocabulary_map: VocabularyMap | None = None,
        frame_rate_map: FrameRateMap | None = None,
        snapshot: str = "",
    ) -> None:
        self.name, self.repeat = name, repeat
        self.store = open_snapshot(str(root), snapshot) if snapshot else Store.open(str(root))
        self.vocabulary_map, self.frame_rate_map = vocabulary_map, frame_rate_map
        chosen = filter or Filter()
        index = self.store.index(list(dict.fromkeys(["num_frames", "duration", *chosen.columns()])))
        keep = chosen.mask(index) & (index["num_frames"].to_numpy() > 0)
        if not keep.any():
            raise ConfigError(
                f"source {name!r}: of {len(index)} utterances in {str(root)!r} none is left by the filter {chosen}; "
                "loosen the filter"
            )
        self.num_frames = index["num_frames"].to_numpy()[keep].astype(np.int64)
        self.hours = float(index["duration"].to_numpy()[keep].sum()) / 3600.0
        self._places = np.stack([index[column].to_numpy()[keep] for column in ("unit", "row_group", "row")], axis=1)
        self._places = self._places.astype(np.int64)
        _, self.groups = np.unique((self._places[:, 0] << 32) | self._places[:, 1], return_inverse=True)
        rows = np.column_stack([self._places, self.num_frames]).astype("<i8")
        content = [name, self.store.identity.fingerprint, fingerprint.of_bytes(rows.tobytes())]
        content += [vocabulary_map.fingerprint] if vocabulary_map else []
        content += [frame_rate_map.spec] if frame_rate_map else []
        self.fingerprint = fingerprint.of_json(content)
        self._target_columns = tuple(self.store.target_columns)
        self._tables: LruCache[pa.Table] = LruCache(int(cache_mb * 1e6))

    def __len__(self) -> int:
        return len(self.num_frames)

    def facts(self, position: int) -> dict[str, Any]:
        """What the store knows of an utterance, other than audio and features: id, lengths, text, packed targets.

        Lists are numpy arrays; `custom` is a dict.
        """
        row = self._row(position, (*_FACTS, *self._target_columns))
        row["custom"] = json.loads(row["custom"]) if row["custom"] else {}
        return row

    def has_targets(self, facts: Mapping[str, Any]) -> bool:
        """Whether an utterance has soft targets."""
        return bool(self._target_columns) and all(facts[column] is not None for column in self._target_columns)

    @property
    def units(self) -> tuple[str, ...]:
        """The output units that the targets are over, empty without targets."""
        return self.vocabulary_map.units if self.vocabulary_map else tuple(self.store.identity.units)

    def targets(self, facts: Mapping[str, Any]) -> SoftTargets | None:
        """Soft targets of an utterance over `units`, at the store's frame rate; None if it has none.

        Raises:
            StoreError: the row is damaged.
            MismatchError: the vocabulary map is for another teacher.
        """
        if not self.has_targets(facts):
            return None
        targets = self.store.targets(facts)
        return self.vocabulary_map(targets) if self.vocabulary_map else targets

    def payload(self, position: int, column: str) -> Any:
        """The `audio` struct (a dict) or the flattened `features` (an array) of an utterance; None if not embedded."""
        return self._row(position, (column,))[column]

    def _row(self, position: int, columns: tuple[str, ...]) -> dict[str, Any]:
        unit, group, row = (int(value) for value in self._places[position])
        table = self._tables.get(
            (unit, group, columns),
            lambda: self.store.read_row_group(unit, group, list(columns)).combine_chunks(),
            lambda read: read.nbytes,
        )
        return {column: _value(table[column][row]) for column in columns}


def _value(scalar: pa.Scalar) -> Any:
    if isinstance(scalar, (pa.ListScalar, pa.LargeListScalar)):
        return scalar.values.to_numpy(zero_copy_only=False) if scalar.is_valid else None
    return scalar.as_py()
