"""Reads a store: its index, row groups and targets; refuses shards of another identity."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from asrkd import fingerprint
from asrkd.cache import LruCache
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.errors import MismatchError, StoreError
from asrkd.fingerprint import canonical_json
from asrkd.store import manifest
from asrkd.store.files import Files
from asrkd.store.identity import Identity
from asrkd.store.plan import read_cuts
from asrkd.store.quarantine import Quarantine
from asrkd.store.rows import rows_of_table
from asrkd.store.schema import IDENTITY_KEY, INDEX, shard_name, unit_of
from asrkd.store.snapshot import pinned
from asrkd.store.threads import read_ahead
from asrkd.targets.packed import PackedTargets
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import POSTERIORS, Targets

T = TypeVar("T")
# A Parquet file ends with its footer's length (4 bytes, little-endian) and "PAR1".
_TAIL = 8
# Shards of a strange identity come by the folder, such as by a copy: of these a sample has some.
MOST_CHECKED = 1024
# Memory for parsed footers, and what one takes for each byte of the file.
_FOOTER_BYTES = 128 * 2**20
_PARSED = 15


@dataclass(frozen=True)
class _Shard:
    """A shard's parsed footer, and which file it was read of (see `Store._file`)."""

    footer: pq.FileMetaData
    file: tuple[int, ...]


class Store:
    """The handle of a store, which everything takes that reads or fills one. Nothing holds more than the index and the row group asked for.

    It is small when it is pickled: other processes open the files by themselves.

    Attributes:
        files: below its root.
        identity: what its targets mean.
        plan: summary of its frozen plan: `num_units`, `num_cuts`, `hours`, `fingerprint`.
        quarantine: cuts that could not be labeled.
    """

    def __init__(
        self, files: Files, identity: Identity, plan: Mapping[str, Any], units: Sequence[int] | None = None
    ) -> None:
        """`units`: see only these finished work units; None for all that are there when they are asked for."""
        self.files, self.identity, self.plan, self._pinned = files, identity, plan, units
        self.quarantine = Quarantine(files)
        # Parsed footers take some fifteen times their bytes, so only those that were used last are kept.
        self._checked: LruCache[_Shard] = LruCache(_FOOTER_BYTES)
        self._footers: dict[int, str] = {}
        self._planned: NDArray[Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process, which checks the shards that it reads by itself."""
        return vars(self) | {"_footers": {}}

    def expect(self, shards: NDArray[Any]) -> None:
        """From now on refuse shards whose footers are not those of an index (`index.SHARD`), also in processes that this store is sent to."""
        # These columns alone: a view of two would keep all.
        self._planned = np.empty(len(shards), [(name, shards.dtype[name]) for name in ("unit", "footer")])
        self._planned["unit"], self._planned["footer"] = shards["unit"], shards["footer"]
        self._checked = LruCache(_FOOTER_BYTES)

    @classmethod
    def open(cls, uri: str, snapshot: str = "") -> Store:
        """Open a store by folder or URI; with the name of a snapshot only the units that it pins are seen.

        Raises:
            StoreError: there is no store of this format, no such snapshot, or a pinned shard is gone.
        """
        store = cls(Files(uri), *manifest.read_manifest(Files(uri)))
        if snapshot:
            store._pinned = pinned(store.files, store.units(), snapshot)
        return store

    @property
    def root(self) -> str:
        """Its folder or URI, for people."""
        return self.files.root

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What spells text with its units; None where its teacher brought nothing. Raises as `manifest.read_tokenizer_of`."""
        return manifest.read_tokenizer_of(self.files)

    @property
    def pinned(self) -> Sequence[int] | None:
        """The units of the snapshot that it was opened by; None without one."""
        return self._pinned

    @property
    def num_units(self) -> int:
        """Planned work units."""
        return int(self.plan["num_units"])

    @property
    def num_cuts(self) -> int:
        """Planned cuts."""
        return int(self.plan["num_cuts"])

    def cuts(self, unit: int) -> list[dict[str, Any]]:
        """The planned cuts of a unit as lhotse writes them, in order.

        Raises:
            StoreError: the plan is missing or damaged.
        """
        return read_cuts(self.files, unit)

    def units(self) -> list[int]:
        """The finished work units, in order."""
        if self._pinned is not None:
            return list(self._pinned)
        found = (unit_of(file.name) for file in self.files.scan("shards", ".parquet"))
        return sorted(unit for unit in found if unit is not None)

    def walk(self, units: Iterable[int] | None = None) -> Iterator[int]:
        """Finished work units (all, in order), for code that looks at each once: the footer of a unit is let go of behind it."""
        for unit in self.units() if units is None else units:
            was_read = unit in self._checked
            yield unit
            if not was_read:
                self._checked.drop(unit)

    def check(self, units: Sequence[int]) -> None:
        """Compare the identities of shards with the store's, some at a time; raises what `metadata` raises.

        Of many shards only `MOST_CHECKED`, spread evenly: whoever reads the others compares them (and `asrkd store verify` all).
        """
        # A shard carries its identity as this text; where it is in the footer's bytes there is nothing to parse and compare.
        same = canonical_json(self.identity.to_dict()).encode()

        def check(unit: int) -> None:
            if unit not in self._checked and same not in self._footer(unit):
                self.metadata(unit)

        for _ in read_ahead(check, units[:: -(-len(units) // MOST_CHECKED) or 1]):
            pass

    def metadata(self, unit: int) -> pq.FileMetaData:
        """A shard's Parquet footer, once its identity has been compared with the store's.

        Raises:
            StoreError: the shard cannot be read.
            MismatchError: it is of another identity, or changed since its index was made.
        """
        return self._shard(unit).footer

    def _shard(self, unit: int) -> _Shard:
        found = self._checked.get(unit)
        if found is None:
            # Before the footer is read: a file that takes its place in between is looked at once more.
            file = self._file(unit)
            footer = self._attempts(unit, lambda: pq.read_metadata(pa.BufferReader(self._footer(unit))))
            stored = (footer.metadata or {}).get(IDENTITY_KEY)
            if stored is None:
                raise MismatchError(
                    f"{shard_name(unit)} of {self.root!r} carries no identity; it is not of an asrkd store"
                )
            self.identity.check_dict(json.loads(stored), what=f"{shard_name(unit)} of {self.root!r}")
            expected = self._expected(unit)
            if expected and _hash(footer) != expected:
                raise self._changed(unit, "since its row groups were indexed")
            found = _Shard(footer, file)
            self._checked.put(unit, found, _PARSED * footer.serialized_size)
        return found

    def _file(self, unit: int) -> tuple[int, ...]:
        """Which file a shard is by now, on a disk; of an object store, where it costs a request, nothing."""
        if not self.files.is_local:
            return ()
        try:
            facts = os.stat(f"{self.files.filesystem[1]}/{shard_name(unit)}")
        except OSError:  # whoever reads it says so
            return ()
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def _changed(self, unit: int, when: str) -> MismatchError:
        return MismatchError(
            f"{shard_name(unit)} of {self.root!r} changed {when}, so a plan of batches made from them does not hold; "
            "run asrkd store index on the store if it has a catalog, and start again"
        )

    def footer_fingerprint(self, unit: int) -> str:
        """A hash of a shard's footer, which another content of the shard would change (sizes, offsets, statistics of columns)."""
        expected = self._expected(unit)
        if expected:
            return expected
        if unit not in self._footers:
            self._footers[unit] = _hash(self.metadata(unit))
        return self._footers[unit]

    def _expected(self, unit: int) -> str:
        """The fingerprint of a shard's footer in the index that batches are planned from, empty without one."""
        if self._planned is None or not len(self._planned):
            return ""
        at = min(int(np.searchsorted(self._planned["unit"], unit)), len(self._planned) - 1)
        entry = self._planned[at]
        return entry["footer"].decode() if entry["unit"] == unit else ""

    def index(self, columns: Sequence[str] = INDEX) -> pa.Table:
        """These columns of every row, in order, with `unit`, `row_group` and `row` (within the row group), int32; see `indexes`."""
        return pa.concat_tables(list(self.indexes(columns)))

    def indexes(self, columns: Sequence[str] = INDEX) -> Iterator[pa.Table]:
        """`index` a work unit at a time, for what no memory holds at once.

        Raises:
            StoreError: there is no finished shard, or one cannot be read.
        """
        empty = True
        for unit in self.walk():
            empty = False
            sizes = [
                self.metadata(unit).row_group(group).num_rows for group in range(self.metadata(unit).num_row_groups)
            ]
            table = self._read(unit, None, columns)
            groups = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
            rows = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes] or [np.zeros(0, np.int32)])
            table = table.append_column("unit", pa.array(np.full(len(groups), unit, dtype=np.int32)))
            table = table.append_column("row_group", pa.array(groups)).append_column("row", pa.array(rows))
            yield table.replace_schema_metadata(None)
        if empty:
            raise self._nothing_finished()

    def _nothing_finished(self) -> StoreError:
        return StoreError(f"store {self.root!r} has no finished shard yet; run asrkd label run first")

    def num_rows(self) -> int:
        """Utterances of the finished units.

        Raises:
            StoreError: there is no finished shard, or one cannot be read.
        """
        if not self.units():
            raise self._nothing_finished()
        return sum(self.metadata(unit).num_rows for unit in self.walk())

    def column(self, unit: int, name: str) -> pa.ChunkedArray:
        """One column of a shard."""
        return self.columns(unit, [name]).column(0)

    def columns(self, unit: int, names: Sequence[str]) -> pa.Table:
        """These columns of a shard."""
        return self._read(unit, None, names)

    def read_row_group(self, unit: int, row_group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One row group, reading only the bytes of these columns (default: all).

        Raises:
            StoreError: it cannot be read, or a page's checksum is another.
        """
        return self._read(unit, row_group, columns)

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Every row in order, as a mapping with list columns as arrays."""
        for unit in self.walk():
            yield from self.unit_rows(unit, columns)

    def unit_rows(self, unit: int, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """`rows` of one work unit."""
        for group in range(self.metadata(unit).num_row_groups):
            yield from rows_of_table(self.read_row_group(unit, group, columns))

    @functools.cached_property
    def target_columns(self) -> list[str]:
        """The packed columns of the soft targets."""
        return list(self.identity.layouts[POSTERIORS].columns) if POSTERIORS in self.identity.streams else []

    def targets(self, row: Mapping[str, Any]) -> SparseTargets:
        """The soft targets of a row that was read with `num_frames` and `target_columns`.

        Raises:
            StoreError: the store has no targets, or the row is damaged.
        """
        return cast(SparseTargets, self.stream(POSTERIORS, [row]))

    def all_targets(self) -> Iterator[SparseTargets]:
        """The soft targets of every row in order, those of a row group at a time.

        Raises:
            StoreError: the store has no targets, or a row is damaged.
        """
        for unit in self.walk():
            for group in range(self.metadata(unit).num_row_groups):
                rows = rows_of_table(self.read_row_group(unit, group, ["num_frames", *self.target_columns]), copy=False)
                yield cast(SparseTargets, self.stream(POSTERIORS, rows))

    def stream(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Targets:
        """The targets of rows in one stream; they were read with `num_frames` and the columns of its layout (`identity.layouts`).

        Raises:
            StoreError: the store has no such stream, or a row is damaged.
        """
        layout = self.identity.layouts.get(name)
        if layout is None:
            what = ", ".join(self.identity.streams) or "transcripts without targets"
            raise StoreError(f"store {self.root!r} holds {what}, and no {name}; label it with a teacher first")
        return PackedTargets.join(layout, rows, [int(row["num_frames"]) for row in rows]).unpack()

    def _read(self, unit: int, row_group: int | None, columns: Sequence[str] | None) -> pa.Table:
        system, base = self.files.filesystem
        shard = self._shard(unit)
        chosen = None if columns is None else list(columns)

        def read() -> pa.Table:
            with pq.ParquetFile(
                f"{base}/{shard_name(unit)}",
                filesystem=system,
                metadata=shard.footer,
                # On an object store neighboring columns come in one request.
                pre_buffer=not isinstance(system, fs.LocalFileSystem),
                page_checksum_verification=True,
            ) as opened:
                return opened.read(chosen) if row_group is None else opened.read_row_group(row_group, chosen)

        try:
            return self._attempts(unit, read)
        finally:
            self._refuse_replaced(unit, shard)

    def _refuse_replaced(self, unit: int, shard: _Shard) -> None:
        """Refuse what was read by a footer if another shard has taken the place of its own: pages of the one may lie where the other's were.

        The same shard, written again, is fine.
        """
        if self._file(unit) != shard.file:
            self._checked.drop(unit)
            if _hash(self.metadata(unit)) != _hash(shard.footer):
                raise self._changed(unit, "since its row groups were read")

    def _footer(self, unit: int) -> bytes:
        """The footer's bytes, and not one more: Arrow reads the last 64 KiB of a file, which may be most of a shard."""
        system, base = self.files.filesystem

        def read() -> bytes:
            with system.open_input_file(f"{base}/{shard_name(unit)}") as shard:
                end = shard.read_at(_TAIL, max(0, shard.size() - _TAIL))
                length = int.from_bytes(end[:4], "little") + _TAIL
                if end[4:] != b"PAR1" or length > shard.size():
                    raise pa.ArrowInvalid("it does not end as a Parquet file")
                found: bytes = shard.read_at(length, shard.size() - length)
                return found

        return self._attempts(unit, read)

    def _attempts(self, unit: int, work: Callable[[], T]) -> T:
        try:
            return self.files.attempts(work)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"{shard_name(unit)} of {self.root!r} cannot be read ({error}); if it is damaged, remove the file and run "
                "asrkd label run again"
            ) from None


def _hash(footer: pq.FileMetaData) -> str:
    sink = pa.BufferOutputStream()
    footer.write_metadata_file(sink)
    return fingerprint.of_bytes(sink.getvalue())
