"""The manifest: a store's identity and the summary of its frozen plan, written last when a store is planned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from asrkd.corpus.inventory import inventory_bytes, read_inventory
from asrkd.corpus.tokenizer import Tokenizer, tokenizer_from_dict, tokenizer_to_dict
from asrkd.errors import StoreError
from asrkd.store.files import Files
from asrkd.store.identity import Identity

NAME = "manifest.json"
INVENTORY = "inventory.txt"
# What spells text with the units, where the teacher brought it. Not part of the identity, which shards repeat.
TOKENIZER = "tokenizer.json"


def create(files: Files, identity: Identity, plan: Mapping[str, Any], tokenizer: Tokenizer | None = None) -> None:
    """Write `inventory.txt` and what the teacher spells text with, then `manifest.json`.

    Raises:
        StoreError: there is a store already.
    """
    if files.exists(NAME):
        raise StoreError(
            f"{files.root!r} is a store already; continue it with asrkd label run, or plan into another folder"
        )
    if identity.units:
        files.write(INVENTORY, inventory_bytes(identity.units))
    if tokenizer is not None:
        content = json.dumps(tokenizer_to_dict(tokenizer), ensure_ascii=False, sort_keys=True)
        files.write(TOKENIZER, f"{content}\n".encode())
    replace_plan(files, identity, plan)


def read_tokenizer_of(files: Files) -> Tokenizer | None:
    """What spells text with the units of a store; None where its teacher brought nothing.

    Raises:
        StoreError: the file is damaged.
        CorpusError: what it holds cannot be used.
    """
    data = files.read_or_none(TOKENIZER)
    if data is None:
        return None
    try:
        return tokenizer_from_dict(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{TOKENIZER} of the store {files.root!r} is damaged ({error}); restore it, or remove it and name the tokenizer by inventory.lexicon"
        ) from None


def replace_plan(files: Files, identity: Identity, plan: Mapping[str, Any]) -> None:
    """Write `manifest.json` with another summary of the plan, when it has grown."""
    content = {"identity": identity.to_dict(), "fingerprint": identity.fingerprint, "plan": dict(plan)}
    files.write(NAME, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_manifest(files: Files) -> tuple[Identity, Mapping[str, Any]]:
    """A store's identity, and the summary of its plan: `num_units`, `num_cuts`, `hours`, `fingerprint`.

    Raises:
        StoreError: there is none, it is damaged, or of another format.
        MismatchError: `inventory.txt` is of another store.
    """
    try:
        content = json.loads(files.read(NAME))
        identity = content["identity"]
        units = read_inventory(files.read(INVENTORY), error=StoreError) if identity["num_units"] else []
        return Identity.from_dict(identity, units), content["plan"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{NAME} of the store {files.root!r} is damaged ({error}); restore it or plan a new store"
        ) from None
