"""The frozen plan: the cuts of each work unit, one JSON object a line, and the totals of all units. `asrkd.labeling.plan` makes it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from asrkd import text
from asrkd.errors import StoreError
from asrkd.store.files import Files

# The totals of all units in one file, so that the state of a job is told without a look into each unit.
TOTALS = "plan/units.parquet"
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, allow_nan=False)


def plan_name(unit: int) -> str:
    """The file of a unit's cuts."""
    return f"plan/part-{unit:05d}.jsonl.gz"


def to_line(cut: Mapping[str, Any]) -> bytes:
    """A line of JSON, the same bytes for the same cut.

    Raises:
        UnicodeEncodeError: it holds text that is not Unicode (lone surrogates), which no UTF-8 file can hold.
        ValueError: it holds NaN or an infinity, which JSON does not have.
    """
    return f"{_ENCODER.encode(cut)}\n".encode()


def to_lines(cuts: Sequence[Mapping[str, Any]]) -> bytes:
    """`to_line` of each."""
    return b"".join(map(to_line, cuts))


def write_planned(files: Files, unit: int, lines: bytes) -> None:
    """Write the cuts of a unit, as `to_lines` gives them."""
    files.write(plan_name(unit), gzip.compress(lines, 1, mtime=0))


def read_cuts(files: Files, unit: int) -> list[dict[str, Any]]:
    """The cuts of a unit as lhotse writes them, in order.

    Raises:
        StoreError: the plan is missing or damaged.
    """
    try:
        return text.json_lines(gzip.decompress(files.read(plan_name(unit))), what=plan_name(unit), error=StoreError)
    except (OSError, EOFError, zlib.error, StoreError) as error:
        raise StoreError(
            f"{plan_name(unit)} of the store {files.root!r} is damaged ({error}); plan into a new store"
        ) from None


def is_planned(files: Files) -> bool:
    """Whether the store has a plan; copies with alignments have none."""
    return files.exists(plan_name(0))


@dataclass(frozen=True)
class PlanTotals:
    """Planned cuts and seconds of audio of each work unit, as they were when it was planned: deletions come later.

    Attributes:
        cuts: (U,) of all units, those that cannot be used included.
        seconds: (U,) of audio.
    """

    cuts: NDArray[np.int64]
    seconds: NDArray[np.float64]

    @classmethod
    def of(cls, cuts: ArrayLike, seconds: ArrayLike) -> PlanTotals:
        """From any sequences of numbers."""
        return cls(np.asarray(cuts, dtype=np.int64), np.asarray(seconds, dtype=np.float64))

    @classmethod
    def read(cls, files: Files) -> PlanTotals:
        """Those of a store; of no units where it was planned by a version without them.

        Raises:
            StoreError: the file is damaged.
        """
        data = files.read_or_none(TOTALS)
        if data is None:
            return cls.of([], [])
        try:
            # Not `pq.read_table`: its threads may still hold the bytes when Python ends, which aborts the process.
            file = pq.ParquetFile(pa.BufferReader(data))
            table = file.read(columns=["cuts", "seconds"], use_threads=False)
            return cls.of(table["cuts"].to_numpy(), table["seconds"].to_numpy())
        except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{TOTALS} of the store {files.root!r} is damaged ({error}); remove it: only label status is slower without it"
            ) from None

    def write(self, files: Files) -> None:
        """Replace those of a store.

        Raises:
            StoreError: they cannot be written.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"cuts": self.cuts, "seconds": self.seconds}), sink, compression="zstd")
        files.write(TOTALS, sink.getvalue().to_pybytes())
