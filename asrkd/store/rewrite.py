"""Copies of a store with columns filled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from asrkd.errors import StoreError
from asrkd.store import manifest
from asrkd.store.catalog_writer import write_catalog
from asrkd.store.files import Files
from asrkd.store.identity import Identity
from asrkd.store.quarantine import Quarantine
from asrkd.store.reader import Store
from asrkd.store.schema import CODEBOOKS, quarantine_name, shard_name
from asrkd.store.writer import write_shard


def check_new(files: Files, verb: str) -> None:
    """See that a copy of a store can be made, before the work for it.

    Raises:
        StoreError: there is a store, or it cannot be written to.
    """
    if files.exists(manifest.NAME):
        raise StoreError(f"{files.root!r} is a store already; {verb} into another folder")
    files.check_writable()


def with_columns(
    store: Store,
    out: str,
    columns: Mapping[str, Mapping[str, Any]],
    identity: Identity | None = None,
    *,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Copy a store, shard by shard, with these columns of each utterance in place of its own; the manifest comes last.

    Args:
        columns: by utterance id, `alignment` ((T,) class ids) and others by name.
        identity: of the copy, if it is not the store's.
        left_out: utterances that the copy does not have, each with the reason, which goes to its quarantine.

    Raises:
        StoreError: `out` is a store already, or an alignment has another length than its utterance.
    """

    def fill(unit: int) -> tuple[Mapping[str, Mapping[str, Any]], Mapping[str, str]]:
        return columns, left_out

    rewrite(store, out, fill, identity)


def rewrite(
    store: Store,
    out: str,
    fill: Callable[[int], tuple[Mapping[str, Mapping[str, Any]], Mapping[str, str]]],
    identity: Identity | None = None,
    *,
    check: Callable[[], None] = lambda: None,
) -> None:
    """`with_columns` a work unit at a time, for what no memory holds at once.

    Args:
        fill: of a work unit, the columns of its utterances and those that are left out, as `with_columns` takes them.
        check: called when all units are written; what it raises leaves no store, nor shards of one.

    Raises:
        StoreError: as `with_columns`.
    """
    new = Files(out)
    check_new(new, "align")
    written: list[str] = []
    try:
        for unit in store.walk():
            columns, left_out = fill(unit)
            written += _rewrite_unit(store, new, unit, columns, left_out, identity or store.identity)
        check()
    except BaseException:
        for name in written:
            new.remove(name)
        raise
    for name in (CODEBOOKS, manifest.TOKENIZER):
        store.files.copy(name, new)
    write_catalog(Store(new, identity or store.identity, store.plan))
    manifest.create(new, identity or store.identity, store.plan)


def _rewrite_unit(
    store: Store,
    new: Files,
    unit: int,
    columns: Mapping[str, Mapping[str, Any]],
    left_out: Mapping[str, str],
    identity: Identity,
) -> list[str]:
    """The names of the files written."""
    rows = list(store.unit_rows(unit))
    bad = {row["id"]: left_out[row["id"]] for row in rows if row["id"] in left_out}
    rows = [row for row in rows if row["id"] not in bad]
    for row in rows:
        row.update(columns.get(row["id"], {}))
        alignment = row["alignment"]
        if alignment is not None and len(alignment) != row["num_frames"]:
            raise StoreError(
                f"the alignment of {row['id']!r} has {len(alignment)} frames, the store {row['num_frames']}; they are of "
                "another front end"
            )
    names = []
    if bad:
        Quarantine(new).write(unit, bad.items())
        names.append(quarantine_name(unit))
    write_shard(new, unit, rows, identity)
    return [*names, shard_name(unit)]
