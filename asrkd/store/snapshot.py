"""Snapshots: a name for the units that are finished now, so that training can begin while labeling goes on."""

from __future__ import annotations

import json
import re

from asrkd.errors import ConfigError, StoreError
from asrkd.store.files import exists, list_names, read_bytes, write_atomic
from asrkd.store.reader import Store


def take(root: str, name: str) -> int:
    """Pin the finished units of a store under a name, in `snapshots/NAME.json`; returns their number.

    Raises:
        ConfigError: a name with other characters than letters, digits, `_`, `.` and `-`.
        StoreError: there is no finished unit, or a snapshot of this name.
    """
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise ConfigError(f"snapshot name {name!r} is not of letters, digits, '_', '.' and '-'")
    units = Store.open(root).units()
    if not units:
        raise StoreError(f"store {root!r} has no finished shard yet, so there is nothing to pin; run asrkd label run")
    if exists(root, _file(name)):
        raise StoreError(
            f"store {root!r} has a snapshot {name!r} already, which a training may rely on; take another name"
        )
    write_atomic(root, _file(name), (json.dumps({"units": units}) + "\n").encode())
    return len(units)


def open_snapshot(root: str, name: str) -> Store:
    """A store of which only the units of a snapshot are seen.

    Raises:
        StoreError: there is no such store or snapshot, or a pinned shard is gone.
    """
    store = Store.open(root)
    if not exists(root, _file(name)):
        names = [found[: -len(".json")] for found in list_names(root, "snapshots", ".json")]
        raise StoreError(
            f"store {root!r} has no snapshot {name!r} (it has: {', '.join(names) or 'none'}); take one with asrkd store snapshot"
        )
    units = json.loads(read_bytes(root, _file(name)))["units"]
    gone = sorted(set(units) - set(store.units()))
    if gone:
        raise StoreError(
            f"snapshot {name!r} of {root!r} pins unit {gone[0]}, whose shard is gone ({len(gone)} of {len(units)}); run asrkd "
            "label run to make it again"
        )
    return Store(root, store.manifest, units)


def _file(name: str) -> str:
    return f"snapshots/{name}.json"
