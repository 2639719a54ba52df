"""A store on Hugging Face's hub: pushed as a dataset that loads there, pulled as a store that is whole."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from asrkd.errors import StoreError
from asrkd.files import check_folder
from asrkd.hub import HubPath, check_repo, fetch, upload, upload_if_new
from asrkd.store.plan import is_planned
from asrkd.store.reader import Store
from asrkd.store.schema import shard_name
from asrkd.store.verify import problems

CARD = "README.md"
# What readers need. The plan and the quarantine name files of the machine that labeled.
_DATA = (
    "manifest.json",
    "inventory.txt",
    "tokenizer.json",
    "codebooks*",
    "shards/*.parquet",
    "catalog/*",
    "snapshots/*",
)
_PLAN = ("plan/*", "quarantine/*", "deleted/*")


@dataclass(frozen=True)
class Pushed:
    """What is, or would be, on the hub: the repository, files, bytes."""

    repo: str
    files: int
    num_bytes: int


def push(store: Store, repo: str, *, card: str, private: bool, with_plan: bool, dry_run: bool) -> Pushed:
    """Upload a store as a dataset; what is there already is not sent again, and a card that is there stays.

    Args:
        repo: `OWNER/NAME`.
        card: the text of its `README.md`.
        private: make it so, where it is new.
        with_plan: also the plan, by which labeling can resume elsewhere; it names the files of this machine.
        dry_run: only count.

    Raises:
        StoreError: the store is not on a disk, or has problems.
        AsrkdError: the hub cannot be reached.
    """
    check_repo(repo)
    if not store.files.is_local:
        raise StoreError(f"store {store.root!r} is on an object store, but a push reads from a disk; copy it first")
    root, patterns = Path(store.files.filesystem[1]), [*_DATA, *(_PLAN if with_plan else ())]
    _check(store.root, "so it is not pushed")
    files = [file for pattern in patterns for file in root.glob(pattern) if file.is_file()]
    found = Pushed(repo, len(files), sum(file.stat().st_size for file in files))
    if not dry_run:
        upload(repo, root, patterns, private=private, message="Store")
        upload_if_new(repo, CARD, card.encode(), "Card")
    return found


def pull(repo: str, out: str | Path, revision: str | None = None) -> Store:
    """Fetch a store that was pushed, and check it. Stopped in the middle, the same command resumes.

    Raises:
        StoreError: there is a folder of that name, or what was fetched is not a whole store.
        AsrkdError: the hub cannot be reached, or the folder cannot be written.
    """
    out = Path(out)
    check_repo(repo)
    check_folder(out)
    if out.exists() and any(out.iterdir()):
        raise StoreError(f"{str(out)!r} is there already, and a store is pulled into a new folder; give another one")
    part = out.parent / f".{out.name}.pulled"
    fetch(HubPath(repo, revision), part)
    try:
        _check(str(part), "so it is not kept", of=f"the dataset {repo!r}")
    except StoreError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(part / ".cache", ignore_errors=True)
    part.replace(out)
    return Store.open(str(out))


def _check(root: str, then: str, of: str = "") -> None:
    """Refuse a store with problems.

    Raises:
        StoreError: the first of them, and how many there are.
    """
    first, count = "", 0
    store = Store.open(root)
    missing = [] if is_planned(store.files) else sorted({*range(store.num_units)} - {*store.units()})
    for problem in chain(problems(root), (f"{shard_name(unit)} is not there" for unit in missing)):
        first, count = first or problem, count + 1
    if count:
        raise StoreError(
            f"{of or f'store {root!r}'} has {count} problems, {then}; the first: {first} (asrkd store verify)"
        )
