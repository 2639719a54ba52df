"""The index of a store: what planning needs of each shard, row group and utterance, without the shards.

It is made from shards, in memory or into the files of a catalog (`asrkd.store.catalog`), and takes over from an earlier one what it knows of
shards that did not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from asrkd import fingerprint
from asrkd.corpus.text_flags import flag_bits
from asrkd.store.identity import Identity
from asrkd.targets.streams import TOKENS

if TYPE_CHECKING:
    from asrkd.store.reader import Store

# Of each utterance, in storage order. A missing number is NaN; `id` and `speaker` are 64-bit hashes (`name_hash`), 0 where missing.
COLUMNS: Mapping[str, str] = {
    "num_frames": "<i4",
    "duration": "<f8",
    "kept_mass": "<f4",
    "entropy": "<f4",
    "confidence": "<f4",
    "id": "<u8",
    "speaker": "<u8",
}
# Further ones of each utterance in a store of a text teacher; flags are bits (`asrkd.corpus.text_flags`).
TEXT_COLUMNS: Mapping[str, str] = {
    "text_confidence": "<f4",
    "text_rate": "<f4",
    "text_compression": "<f4",
    "text_repetition": "<f4",
    "text_no_speech": "<f4",
    "text_flags": "<u4",
}
# Of each row group, in storage order: utterances, and bytes in memory before compression.
GROUP_COLUMNS: Mapping[str, str] = {"group_rows": "<i4", "group_bytes": "<i8"}
# Of each shard: its unit, bytes of the file, fingerprints of its footer and of its utterances' lengths and row groups, counts, utterances that have
# a frame, their frames, the frames of the longest, seconds of audio of those with a frame and of all.
SHARD = np.dtype(
    [("unit", "<i8"), ("size", "<i8"), ("footer", "S32"), ("content", "S32"), ("groups", "<i8"), ("rows", "<i8")]
    + [("kept", "<i8"), ("frames", "<i8"), ("longest", "<i8"), ("seconds", "<f8"), ("all_seconds", "<f8")]
)
_HASHED = ("id", "speaker")
# Shards read at a time: an object store answers many requests as fast as one.
_AT_A_TIME = 16
_COPIED_ROWS = 1 << 20


class Sink(Protocol):
    """Where an index is written to, piece by piece."""

    def append(self, name: str, values: NDArray[Any]) -> None:
        """Add values to the end of a column (`COLUMNS`, `GROUP_COLUMNS`) or of `shards` (`SHARD`)."""


class Index:
    """Shards, row groups and utterances of a store, in the order of units.

    Attributes:
        shards: (N,) of type `SHARD`.
        group_edges: (N + 1,) the first row group of each shard, and their number.
        row_edges: (N + 1,) the first utterance of each shard, and their number.
    """

    def __init__(self, shards: NDArray[Any], column: Callable[[str], NDArray[Any]]) -> None:
        """`column`: gives a column by name, perhaps mapped from a file when it is first asked for."""
        self.shards, self.column = shards, column
        self.group_edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(shards["groups"])])
        self.row_edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(shards["rows"])])

    def find(self, units: NDArray[np.integer]) -> NDArray[np.int64]:
        """The places in `shards` of these units; -1 for one that is not there."""
        known = self.shards["unit"]
        if not len(known):
            return np.full(len(units), -1)
        at = np.minimum(np.searchsorted(known, units), len(known) - 1)
        return np.where(known[at] == units, at, -1)


class InMemory:
    """A sink that becomes an index in memory."""

    def __init__(self) -> None:
        self._parts: dict[str, list[NDArray[Any]]] = {}

    def append(self, name: str, values: NDArray[Any]) -> None:
        self._parts.setdefault(name, []).append(values)

    def index(self) -> Index:
        """The index of what was added."""
        types = {**COLUMNS, **TEXT_COLUMNS, **GROUP_COLUMNS}
        whole = {name: np.concatenate(parts) for name, parts in self._parts.items()}

        def column(name: str) -> NDArray[Any]:
            return whole.get(name, np.zeros(0, types[name]))

        return Index(whole.get("shards", np.zeros(0, SHARD)), column)


def columns_of(identity: Identity) -> dict[str, str]:
    """The columns of each utterance in the index of a store, with their types."""
    return {**COLUMNS, **(TEXT_COLUMNS if TOKENS in identity.streams else {})}


def name_hash(name: str | None) -> int:
    """64 bits of BLAKE2b of a name, never 0; 0 for none."""
    if name is None:
        return 0
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1


def add_shards(
    sink: Sink,
    store: Store,
    units: Sequence[int],
    sizes: Mapping[int, int],
    columns: Sequence[str],
    known: Index | None = None,
    changed: Callable[[int], bool] = lambda unit: False,
) -> None:
    """Write the index of shards: from `known` where it has a shard of the same size, else from the shards.

    Args:
        units: ascending.
        sizes: bytes of each unit's file.
        columns: of the utterances, names of `columns_of` the store.
        known: an earlier index.
        changed: whether a shard of `known` is another now though its size is the same.

    Raises:
        StoreError, MismatchError: a shard cannot be read, or is of another store.
    """
    places = np.full(len(units), -1)
    if known:
        places = known.find(np.asarray(units, dtype=np.int64))
        other = known.shards["size"][places] != np.array([sizes[unit] for unit in units]) if len(known.shards) else True
        places[other] = -1
        places[[changed(unit) if place >= 0 else False for unit, place in zip(units, places, strict=True)]] = -1
    for start, end in _runs(places):
        if known and places[start] >= 0:
            _copy(sink, known, int(places[start]), int(places[end - 1]) + 1, columns)
        else:
            _read(sink, store, units[start:end], sizes, columns)


def _runs(places: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Stretches of places that follow each other, and stretches of -1."""
    if not len(places):
        return
    missing = places < 0
    breaks = (missing[1:] != missing[:-1]) | (~missing[1:] & (np.diff(places) != 1))
    edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(places)]
    yield from zip(edges[:-1], edges[1:], strict=True)


def _copy(sink: Sink, known: Index, first: int, last: int, columns: Sequence[str]) -> None:
    sink.append("shards", known.shards[first:last])
    for names, edges in ((columns, known.row_edges), (tuple(GROUP_COLUMNS), known.group_edges)):
        for name in names:
            for start in range(edges[first], edges[last], _COPIED_ROWS):
                sink.append(name, known.column(name)[start : min(start + _COPIED_ROWS, edges[last])])


def _read(sink: Sink, store: Store, units: Sequence[int], sizes: Mapping[int, int], columns: Sequence[str]) -> None:
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        # Not all at once: what is read waits in memory until it is written.
        for start in range(0, len(units), 4 * _AT_A_TIME):
            some = units[start : start + 4 * _AT_A_TIME]
            for parts in pool.map(lambda unit: _of_shard(store, unit, sizes[unit], columns), some):
                for name, values in parts.items():
                    sink.append(name, values)


def _of_shard(store: Store, unit: int, size: int, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
    footer = store.metadata(unit)
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    table = store.columns(unit, list(dict.fromkeys(["num_frames", "duration", *columns])))
    found = {name: _values(table[name], name) for name in columns}
    rows = np.array([group.num_rows for group in groups], "<i4")
    frames, seconds = _values(table["num_frames"], "num_frames"), _values(table["duration"], "duration")
    has_frames = frames > 0
    shard = np.zeros(1, SHARD)
    for name, value in {
        "unit": unit,
        "size": size,
        "footer": store.footer_fingerprint(unit),
        "content": fingerprint.of_bytes(rows.tobytes() + frames.tobytes()),
        "groups": len(groups),
        "rows": len(frames),
        "kept": has_frames.sum(),
        "frames": frames.sum(dtype=np.int64),
        "longest": frames.max(initial=0),
        "seconds": seconds[has_frames].sum(),
        "all_seconds": seconds.sum(),
    }.items():
        shard[name] = value
    sizes = np.array([group.total_byte_size for group in groups], "<i8")
    return {"shards": shard, "group_rows": rows, "group_bytes": sizes, **found}


def _values(column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    if name in _HASHED:
        # Each name once: a speaker has many utterances.
        encoded = column.combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        hashes = np.array([*map(name_hash, encoded.dictionary.to_pylist()), 0], COLUMNS[name])
        places: NDArray[Any] = encoded.indices.fill_null(len(hashes) - 1).to_numpy(zero_copy_only=False)
        return hashes[places]
    if name == "text_flags":
        return np.array([flag_bits(names or ()) for names in column.to_pylist()], TEXT_COLUMNS[name])
    # A missing value becomes NaN.
    values: NDArray[Any] = column.to_numpy()
    return np.ascontiguousarray(values, {**COLUMNS, **TEXT_COLUMNS}[name])
