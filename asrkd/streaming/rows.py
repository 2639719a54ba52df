"""The rows of one source, read by place; what a reader process needs of a source, without its index."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from asrkd.cache import LruCache
from asrkd.errors import StoreError
from asrkd.store.reader import Store
from asrkd.store.rows import rows_of_table
from asrkd.streaming.disk_cache import DiskCache
from asrkd.targets.frame_rate_map import FrameRateMap
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import POSTERIORS, Columns, Targets
from asrkd.targets.vocabulary_map import VocabularyMap

if TYPE_CHECKING:
    from asrkd.streaming.joined_audio import JoinedAudio

# Work unit, row group, row within the row group.
Place = tuple[int, int, int]
_FACTS = ("id", "num_samples", "num_frames", "duration", "speaker", "text", "custom", "alignment")
# An object store answers many requests as fast as one.
_AT_A_TIME = 16


class SourceRows:
    """Rows of a store by place; row groups that were read last stay in memory up to `cache_bytes`, a small store as a whole.

    Attributes:
        name: of the source.
        store: the opened store.
        vocabulary_map: from the store's classes to the student's, None if they are the same.
        frame_rate_map: from the store's frames to the student's, None if they are the same.
        joined_audio: the audio of a store that embeds none, None otherwise.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        *,
        vocabulary_map: VocabularyMap | None,
        frame_rate_map: FrameRateMap | None,
        joined_audio: JoinedAudio | None,
        cache_bytes: int,
        disk_cache: DiskCache | None,
        streams: Sequence[str] = (POSTERIORS,),
    ) -> None:
        self.name, self.store = name, store
        # Each stream that is read and there, with the names of its columns.
        layouts = store.identity.layouts
        self._streams = {stream: tuple(layouts[stream].columns) for stream in layouts if stream in streams}
        self.vocabulary_map, self.frame_rate_map = vocabulary_map, frame_rate_map
        self.joined_audio = joined_audio
        self._fact_columns = (*_FACTS, *(column for columns in self._streams.values() for column in columns))
        self._groups: LruCache[list[dict[str, Any]]] = LruCache(cache_bytes)
        self._disk = disk_cache
        self._is_local = store.files.is_local

    def resize(self, cache_bytes: int) -> None:
        """Begin with another bound of the memory."""
        self._groups = LruCache(cache_bytes)

    @property
    def units(self) -> tuple[str, ...]:
        """The output units that the targets are over, empty without targets."""
        return self.vocabulary_map.units if self.vocabulary_map else self.store.identity.units

    def facts(self, place: Place) -> dict[str, Any]:
        """What the store knows of an utterance, other than audio and features: id, lengths, text, packed targets.

        Lists are numpy arrays; `custom` is a dict.
        """
        row = dict(self._row(place, self._fact_columns))
        row["custom"] = json.loads(row["custom"]) if row["custom"] else {}
        return row

    def packed(self, facts: Mapping[str, Any]) -> dict[str, Columns]:
        """The packed columns of each stream in which an utterance has targets."""
        return {
            stream: {column: facts[column] for column in columns}
            for stream, columns in self._streams.items()
            if all(facts[column] is not None for column in columns)
        }

    def targets(self, facts: Mapping[str, Any]) -> dict[str, Targets]:
        """The targets of an utterance by stream, at the store's frame rate; posteriors are over `units`.

        Raises:
            StoreError: the row is damaged.
            MismatchError: the vocabulary map is for another teacher.
        """
        try:
            found = {stream: self.store.stream(stream, [facts]) for stream in self.packed(facts)}
        except StoreError as error:
            raise StoreError(f"utterance {facts['id']!r} of source {self.name!r}: {error}") from None
        if self.vocabulary_map and POSTERIORS in found:
            found[POSTERIORS] = self.vocabulary_map(cast(SparseTargets, found[POSTERIORS]))
        return found

    def payload(self, place: Place, column: str) -> Any:
        """The `audio` struct (a dict) or the bytes of the `features` (not to be written to) of an utterance, see `asrkd.store.embedding`; None if not embedded."""
        return self._row(place, (column,))[column]

    def fetch(self, places: Iterable[Place]) -> None:
        """Read the row groups of these places into memory, several at a time if they come from an object store."""
        if self._is_local:
            return
        embedded = self.store.identity.embedding.column
        columns = [self._fact_columns, *([(embedded,)] if embedded else [])]
        wanted = [(unit, group, part) for unit, group in {place[:2]: None for place in places} for part in columns]
        missing = [one for one in wanted if one not in self._groups]
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for key, (table, size) in zip(missing, pool.map(lambda one: self._read(*one), missing), strict=True):
                self._groups.put(key, table, size)

    def _row(self, place: Place, columns: tuple[str, ...]) -> dict[str, Any]:
        unit, group, row = place
        rows = self._groups.get((unit, group, columns))
        if rows is None:
            rows, size = self._read(unit, group, columns)
            self._groups.put((unit, group, columns), rows, size)
        return rows[row]

    def _read(self, unit: int, group: int, columns: tuple[str, ...]) -> tuple[list[dict[str, Any]], int]:
        if self._disk is None:
            table = self.store.read_row_group(unit, group, list(columns))
        else:
            key = [self.store.identity.fingerprint, self.store.footer_fingerprint(unit), unit, group, list(columns)]
            table = self._disk.table(key, lambda: self.store.read_row_group(unit, group, list(columns)))
        return rows_of_table(table, copy=False), table.nbytes
