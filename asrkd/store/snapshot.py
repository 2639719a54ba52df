"""Snapshots: a name for the units that are finished now, so that training can begin while labeling continues."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from asrkd.errors import ConfigError, StoreError
from asrkd.store.files import Files

if TYPE_CHECKING:
    from asrkd.store.reader import Store


def take(store: Store, name: str) -> int:
    """Pin the finished units of a store under a name, in `snapshots/NAME.json`; returns their number.

    Raises:
        ConfigError: a name with other characters than letters, digits, `_`, `.` and `-`.
        StoreError: there is no finished unit, or a snapshot of this name.
    """
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise ConfigError(f"snapshot name {name!r} is not of letters, digits, '_', '.' and '-'")
    units = store.units()
    if not units:
        raise StoreError(
            f"store {store.root!r} has no finished shard yet, so there is nothing to pin; run asrkd label run"
        )
    if store.files.exists(_file(name)):
        raise StoreError(
            f"store {store.root!r} has a snapshot {name!r} already, which a training may rely on; take another name"
        )
    store.files.write(_file(name), (json.dumps({"units": units}) + "\n").encode())
    return len(units)


def pinned(files: Files, finished: Collection[int], name: str) -> list[int]:
    """The units of a snapshot.

    Raises:
        StoreError: there is no such snapshot, or a shard that it pins is not among the finished ones.
    """
    data = files.read_or_none(_file(name))
    if data is None:
        names = [file.name[: -len(".json")] for file in files.list("snapshots", ".json")]
        raise StoreError(
            f"store {files.root!r} has no snapshot {name!r} (it has: {', '.join(names) or 'none'}); take one with asrkd store snapshot"
        )
    units: list[int] = json.loads(data)["units"]
    gone = sorted(set(units) - set(finished))
    if gone:
        raise StoreError(
            f"snapshot {name!r} of {files.root!r} pins unit {gone[0]}, whose shard is gone ({len(gone)} of {len(units)}); run asrkd "
            "label run to make it again"
        )
    return units


def _file(name: str) -> str:
    return f"snapshots/{name}.json"
