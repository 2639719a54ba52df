"""Takes utterances out of a store: only the files that hold them are rewritten, each whole or not at all."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from asrkd.corpus.where import field_of
from asrkd.errors import StoreError
from asrkd.store.catalog_writer import update_catalog
from asrkd.store.entries import read_entries, write_entries
from asrkd.store.files import Files
from asrkd.store.plan import is_planned, to_lines, write_planned
from asrkd.store.reader import Store
from asrkd.store.schema import quarantine_name
from asrkd.store.writer import write_shard


def delete(
    store: Store, *, ids: Collection[str] = (), speakers: Collection[str] = (), dry_run: bool = False
) -> dict[int, list[str]]:
    """Delete utterances by id and by speaker; run again after a kill, it finishes. Not while the store is being labeled.

    They leave the shards, the quarantine and the plan, those of unfinished units, too, which will not be labeled. Only their
    ids stay, in `deleted/part-*.jsonl`.

    Returns:
        The ids that are deleted, by work unit.

    Raises:
        StoreError: an id or a speaker that the store does not have, or a file that cannot be written.
    """
    ids, speakers = set(ids), set(speakers)
    unknown_ids, unknown_speakers = set(ids), set(speakers)
    found: dict[int, list[str]] = {}
    finished = set(store.units())
    for unit, names in _names(store, finished):
        unknown_ids.difference_update(names, deleted_ids(store.files, unit) if unknown_ids else ())
        unknown_speakers.difference_update(name for name in names.values() if name)
        wanted = [key for key, speaker in names.items() if key in ids or speaker in speakers]
        if wanted:
            found[unit] = wanted
    unknown = [f"id {key!r}" for key in sorted(unknown_ids)]
    unknown += [f"speaker {name!r}" for name in sorted(unknown_speakers)]
    if unknown:
        raise StoreError(
            f"store {store.root!r} has no {unknown[0]} ({len(unknown)} names are unknown), so nothing was deleted; asrkd store head "
            "shows ids and speakers"
        )
    for unit, wanted in found.items() if not dry_run else ():
        _delete(store, unit, set(wanted), is_finished=unit in finished)
    if not dry_run:
        update_catalog(Store.open(store.root), found)
    return found


def deleted_ids(files: Files, unit: int) -> list[str]:
    """Ids that were deleted from a work unit."""
    return [entry["id"] for entry in read_entries(files, _record(unit), "id")]


def _names(store: Store, finished: Collection[int]) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Speaker by id of every unit: of its plan and of its shard, one of which a killed deletion may have changed already."""
    has_plan = is_planned(store.files)
    for unit in sorted({*finished, *(range(store.num_units) if has_plan else ())}):
        names = {cut["id"]: field_of(cut, "speaker") for cut in store.cuts(unit)} if has_plan else {}
        for _ in store.walk([unit] if unit in finished else ()):
            names |= {row["id"]: row["speaker"] for row in store.unit_rows(unit, ["id", "speaker"])}
        yield unit, names


def _delete(store: Store, unit: int, leaving: set[str], *, is_finished: bool) -> None:
    files = store.files
    # The record first: a shard without the rows and without the record would look damaged.
    record = sorted({*deleted_ids(files, unit), *leaving})
    write_entries(files, _record(unit), [{"id": key} for key in record])
    if is_finished:
        rows = [row for unit in store.walk([unit]) for row in store.unit_rows(unit)]
        kept = [row for row in rows if row["id"] not in leaving]
        if len(kept) < len(rows):
            write_shard(files, unit, kept, store.identity)
    quarantine = quarantine_name(unit)
    if files.exists(quarantine):
        entries = read_entries(files, quarantine, "id")
        write_entries(files, quarantine, [entry for entry in entries if entry["id"] not in leaving])
    if is_planned(files):
        write_planned(files, unit, to_lines([cut for cut in store.cuts(unit) if cut["id"] not in leaving]))


def _record(unit: int) -> str:
    return f"deleted/part-{unit:05d}.jsonl"
