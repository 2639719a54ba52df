"""The manifest: a store's identity and the summary of its frozen plan, written last when a store is planned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asrkd.corpus.inventory import inventory_bytes, read_inventory
from asrkd.errors import StoreError
from asrkd.store.files import exists, read_bytes, write_atomic
from asrkd.store.identity import Identity

NAME = "manifest.json"
INVENTORY = "inventory.txt"


@dataclass(frozen=True)
class Manifest:
    """Identity and plan: `num_units`, `num_cuts`, `hours`, `fingerprint`."""

    identity: Identity
    plan: Mapping[str, Any]


def create(root: str, identity: Identity, plan: Mapping[str, Any]) -> Manifest:
    """Write `inventory.txt`, then `manifest.json`.

    Raises:
        StoreError: there is a store already.
    """
    if exists(root, NAME):
        raise StoreError(f"{root!r} is a store already; continue it with asrkd label run, or plan into another folder")
    if identity.units:
        write_atomic(root, INVENTORY, inventory_bytes(identity.units))
    return replace_plan(root, identity, plan)


def replace_plan(root: str, identity: Identity, plan: Mapping[str, Any]) -> Manifest:
    """Write `manifest.json` with another summary of the plan, when it has grown."""
    content = {"identity": identity.to_dict(), "fingerprint": identity.fingerprint, "plan": dict(plan)}
    write_atomic(root, NAME, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return Manifest(identity, dict(plan))


def read_manifest(root: str) -> Manifest:
    """Read a store's manifest and inventory.

    Raises:
        StoreError: there is none, it is damaged, or of another format.
        MismatchError: `inventory.txt` is of another store.
    """
    try:
        content = json.loads(read_bytes(root, NAME))
        identity = content["identity"]
        units = read_inventory(read_bytes(root, INVENTORY), error=StoreError) if identity["num_units"] else []
        return Manifest(Identity.from_dict(identity, units), content["plan"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{NAME} of the store {root!r} is damaged ({error}); restore it or plan a new store") from None
