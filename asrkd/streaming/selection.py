"""The utterances of an index that a filter leaves, by position: nothing is held for each of them, only for each row group."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asrkd import fingerprint
from asrkd.config import is_pair
from asrkd.corpus.text_flags import FLAGS, flag_bits
from asrkd.errors import ConfigError
from asrkd.store.index import TEXT_COLUMNS, Index, name_hash
from asrkd.streaming.rows import Place

_FLAGGED = "text_flags"
# Of stores of text teachers alone.
BOUNDED_TEXT = tuple(column for column in TEXT_COLUMNS if column != _FLAGGED)
BOUNDED = ("duration", "num_frames", "kept_mass", "entropy", "confidence", *BOUNDED_TEXT)
# Utterances that are filtered at a time.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Filter:
    """Which utterances of a store a source uses.

    Attributes:
        bounds: column -> (lowest, highest), both inclusive, None for no bound; columns are `duration` (seconds),
            `num_frames`, `kept_mass`, `entropy` (nats) and `confidence`, of text teachers `text_confidence`, `text_rate`,
            `text_compression`, `text_repetition` and `text_no_speech`. An utterance without a value is left out.
        ids: only these utterances; None for all.
        speakers: only utterances of these speakers; None for all.
        without_flags: no utterance whose text has one of these flags (`asrkd.corpus.text_flags.FLAGS`).

    Names are compared by 64-bit hashes.
    """

    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    ids: frozenset[str] | None = None
    speakers: frozenset[str] | None = None
    without_flags: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for flag in self.without_flags:
            if flag not in FLAGS:
                raise ConfigError(f"a text has no flag {flag!r}; choose from {', '.join(FLAGS)}")
        for column, pair in self.bounds.items():
            if column not in BOUNDED:
                raise ConfigError(f"a source cannot be filtered by {column!r}; choose from {', '.join(BOUNDED)}")
            if not is_pair(pair):
                raise ConfigError(
                    f"the bounds of {column!r} are {pair!r}, but must be a lowest and a highest value, None for none"
                )

    def columns(self) -> list[str]:
        """The index columns that the filter looks at."""
        return [*self.bounds, *self._members(), *([_FLAGGED] if self.without_flags else [])]

    def text_columns(self) -> list[str]:
        """Those of them that only stores of text teachers have."""
        return [column for column in self.columns() if column in TEXT_COLUMNS]

    def mask(self, index: Index, start: int, end: int) -> NDArray[np.bool_]:
        """(end - start,) which utterances of this stretch of an index stay; none without a frame does."""
        keep: NDArray[np.bool_] = index.column("num_frames")[start:end] > 0
        for column, (low, high) in self.bounds.items():
            # A missing value is NaN, which is neither above nor below anything. float64: as the bounds are.
            values = index.column(column)[start:end].astype(np.float64)
            keep &= (values >= (-np.inf if low is None else low)) & (values <= (np.inf if high is None else high))
        if self.without_flags:
            keep &= (index.column(_FLAGGED)[start:end] & flag_bits(sorted(self.without_flags))) == 0
        for column, members in self._members().items():
            hashes = np.array(sorted(map(name_hash, members)), np.uint64)
            keep &= np.isin(index.column(column)[start:end], hashes)
        return keep

    def _members(self) -> dict[str, frozenset[str]]:
        chosen = {"id": self.ids, "speaker": self.speakers}
        return {column: members for column, members in chosen.items() if members is not None}


class Frames:
    """(U,) frames of utterances, looked up when they are asked for; indexed by positions as an array is."""

    def __init__(self, look_up: Callable[[NDArray[np.integer]], NDArray[np.integer]], count: int, longest: int) -> None:
        self._look_up, self._count, self._longest = look_up, count, longest

    def __getitem__(self, positions: NDArray[np.integer]) -> NDArray[np.integer]:
        return self._look_up(positions)

    def __len__(self) -> int:
        return self._count

    def max(self) -> int:
        """Of the longest."""
        return self._longest

    def map(self, change: Callable[[NDArray[np.integer]], NDArray[np.integer]]) -> Frames:
        """Each changed by a function that does not fall."""
        longest = int(change(np.array([self._longest], np.int64))[0])
        return Frames(lambda positions: change(self._look_up(positions)), self._count, longest)


class Selection:
    """Utterances of an index, counted through from 0 in the order of storage.

    Attributes:
        num_frames: (U,) output frames of each.
        group_edges: (G + 1,) int64 position of the first utterance of each row group that has any, and their number.
        fingerprint: of the utterances' places and lengths.
        available: utterances that the filter looked at.

    Args:
        shards: (N,) which shards of the index count.
    """

    def __init__(self, index: Index, shards: NDArray[np.bool_], filter: Filter) -> None:
        self._index, self._shards, self._filter = index, shards, filter
        self._first_row = np.concatenate([np.zeros(1, np.int64), np.cumsum(index.column("group_rows"), dtype=np.int64)])
        self.available = int(index.shards["rows"][shards].sum())
        facts = index.shards[shards]
        self._whole = not filter.columns() and bool((facts["kept"] == facts["rows"]).all())
        digests = [facts["content"].tobytes().decode()]
        if self._whole:
            sizes = np.where(np.repeat(shards, index.shards["groups"]), index.column("group_rows"), 0)
            longest = int(facts["longest"].max(initial=0))
        else:
            sizes, longest, mask_digest = self._filtered()
            # As without a filter, if it leaves all.
            digests += [mask_digest] if int(sizes.sum(dtype=np.int64)) < self.available else []
        self._groups: NDArray[np.int32] = np.flatnonzero(sizes).astype(np.int32)
        counts = sizes[self._groups]
        self.group_edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        if len(self._groups) == len(sizes) and np.array_equal(self.group_edges, self._first_row):
            self.group_edges = self._first_row
        self.num_frames = Frames(self._frames, len(self), longest)
        units = np.ascontiguousarray(facts["unit"], "<i8").tobytes()
        self.fingerprint = fingerprint.of_json([fingerprint.of_bytes(units), *digests])

    def __len__(self) -> int:
        return int(self.group_edges[-1])

    def places(self, positions: NDArray[np.integer]) -> list[Place]:
        """Where utterances are in the store: work unit, row group, row."""
        groups, rows = self._at(positions)
        shards = np.searchsorted(self._index.group_edges, groups, side="right") - 1
        numbers = groups - self._index.group_edges[shards]
        return list(zip(self._index.shards["unit"][shards].tolist(), numbers.tolist(), rows.tolist(), strict=True))

    def seconds(self) -> float:
        """Of audio in all."""
        if not self._filter.columns():
            return float(self._index.shards["seconds"][self._shards].sum())
        durations = self._index.column("duration")
        return sum(
            float(durations[self._index.row_edges[first] : self._index.row_edges[last]][mask].sum())
            for first, last, mask in self._masks()
        )

    def group_bytes(self) -> float:
        """Of a whole row group in memory, on average."""
        return float(self._index.column("group_bytes")[self._groups].mean())

    def _filtered(self) -> tuple[NDArray[np.int32], int, str]:
        """Utterances of each row group that stay, frames of the longest of them, and a fingerprint of which they are."""
        sizes = np.zeros(len(self._first_row) - 1, np.int32)
        longest, digest = 0, hashlib.sha256()
        edges, frames = self._index.row_edges, self._index.column("num_frames")
        for first, last, mask in self._masks():
            start, groups = edges[first], slice(self._index.group_edges[first], self._index.group_edges[last] + 1)
            counted = np.concatenate([np.zeros(1, np.int32), np.cumsum(mask, dtype=np.int32)])
            sizes[groups.start : groups.stop - 1] = np.diff(counted[self._first_row[groups] - start])
            longest = max(longest, int(frames[start : edges[last]][mask].max(initial=0)))
            # A shard at a time: the same shards have the same fingerprint, whatever others are between them.
            for shard in np.flatnonzero(self._shards[first:last]) + first:
                digest.update(np.packbits(mask[edges[shard] - start : edges[shard + 1] - start]).tobytes())
        return sizes, longest, digest.hexdigest()

    def _masks(self) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
        """Stretches of shards, first to last, and which of their utterances stay."""
        edges, first = self._index.row_edges, 0
        while first < len(self._shards):
            last = max(first + 1, int(np.searchsorted(edges, edges[first] + _CHUNK, side="right")) - 1)
            mask = self._filter.mask(self._index, int(edges[first]), int(edges[last]))
            mask &= np.repeat(self._shards[first:last], self._index.shards["rows"][first:last])
            yield first, last, mask
            first = last

    def _at(self, positions: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The row groups of utterances in the index, and their rows in them."""
        at = np.searchsorted(self.group_edges, positions, side="right") - 1
        groups, rows = self._groups[at].astype(np.int64), positions - self.group_edges[at]
        if not self._whole:
            for group in np.unique(groups):
                here = groups == group
                start, end = self._first_row[group], self._first_row[group + 1]
                rows[here] = np.flatnonzero(self._filter.mask(self._index, int(start), int(end)))[rows[here]]
        return groups, rows

    def _frames(self, positions: NDArray[np.integer]) -> NDArray[np.integer]:
        positions = np.asarray(positions)
        groups, rows = self._at(positions.reshape(-1))
        found: NDArray[np.int32] = self._index.column("num_frames")[self._first_row[groups] + rows]
        return found.reshape(positions.shape)
