"""The frozen plan: the cuts of each work unit, one JSON object a line. `asrkd.labeling.plan` makes it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

from asrkd.errors import StoreError
from asrkd.store.files import exists, read_bytes, write_atomic


def plan_name(unit: int) -> str:
    """The file of a unit's cuts."""
    return f"plan/part-{unit:05d}.jsonl.gz"


def to_lines(cuts: Sequence[Mapping[str, Any]]) -> bytes:
    """Lines of JSON, the same bytes for the same cuts."""
    return "".join(json.dumps(cut, ensure_ascii=False, sort_keys=True) + "\n" for cut in cuts).encode()


def write_cuts(root: str, unit: int, lines: bytes) -> None:
    """Write the cuts of a unit, as `to_lines` gives them."""
    write_atomic(root, plan_name(unit), gzip.compress(lines, 1, mtime=0))


def read_cuts(root: str, unit: int) -> list[dict[str, Any]]:
    """The cuts of a unit as lhotse writes them, in order.

    Raises:
        StoreError: the plan is missing or damaged.
    """
    try:
        return [json.loads(line) for line in gzip.decompress(read_bytes(root, plan_name(unit))).decode().splitlines()]
    except (OSError, EOFError, ValueError) as error:
        raise StoreError(
            f"{plan_name(unit)} of the store {root!r} is damaged ({error}); plan into a new store"
        ) from None


def is_planned(root: str) -> bool:
    """Whether the store has a plan; copies with alignments have none."""
    return exists(root, plan_name(0))
