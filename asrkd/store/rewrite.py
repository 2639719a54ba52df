"""Copies of a store with a column filled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from asrkd.errors import StoreError
from asrkd.store import manifest
from asrkd.store.files import exists
from asrkd.store.reader import Store, table_rows
from asrkd.store.writer import write_shard


def with_alignment(store: Store, out: str, labels: Mapping[str, NDArray[np.int64]]) -> None:
    """Copy a store, shard by shard, with the `alignment` of each utterance in `labels`; the manifest comes last.

    Args:
        labels: (T,) class ids by utterance id.

    Raises:
        StoreError: `out` is a store already, or an alignment has another length than its utterance.
    """
    if exists(out, manifest.NAME):
        raise StoreError(f"{out!r} is a store already; align into another folder")
    for unit in store.units():
        rows = []
        for group in range(store.metadata(unit).num_row_groups):
            rows += table_rows(store.read_row_group(unit, group))
        for row in rows:
            alignment = labels.get(row["id"])
            if alignment is not None and len(alignment) != row["num_frames"]:
                raise StoreError(
                    f"the alignment of {row['id']!r} has {len(alignment)} frames, the store {row['num_frames']}; they are of "
                    "another front end"
                )
            row["alignment"] = alignment
        write_shard(out, unit, rows, store.identity)
    manifest.create(out, store.identity, store.manifest.plan)
