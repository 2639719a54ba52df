"""The frozen plan: the cuts of each work unit, one JSON object a line. `asrkd.labeling.plan` makes it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from asrkd import text
from asrkd.errors import StoreError
from asrkd.store.files import Files

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
