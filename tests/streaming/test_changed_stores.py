"""A stream over a store that changes: refused by name, unless a snapshot pins what it reads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from stream_helpers import FRONT_END, make_loader, same_batches

from asrkd.errors import MismatchError
from asrkd.store import Store, snapshot
from asrkd.store.compact import compact
from asrkd.store.delete import delete
from asrkd.store.files import Files
from asrkd.store.writer import write_shard
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source

MakeStore = Callable[..., str]


def test_a_store_that_lost_an_utterance_or_was_compacted_is_refused(make_store: MakeStore, tmp_path: Path) -> None:
    root = make_store("u", rows=20)
    loader = make_loader({"s": root})
    list(islice(loader.steps({"s": 1}), 2))
    state = loader.state_dict()
    compact(Store.open(root), str(tmp_path / "joined"), shard_hours=1.0)
    with pytest.raises(MismatchError, match="another source s .*start a new run"):
        make_loader({"s": str(tmp_path / "joined")}).load_state_dict(state)
    delete(Store.open(root), ids={"u3"})
    with pytest.raises(MismatchError, match="another source s .*start a new run"):
        make_loader({"s": root}).load_state_dict(state)


def test_a_shard_that_is_added_leaves_the_pinned_stream_as_it_was(make_store: MakeStore) -> None:
    root, more = make_store("u", rows=20, shards=2), make_store("u", rows=30, shards=3)
    snapshot.take(Store.open(root), "first")

    def pinned() -> Source:
        return Source("s", Store.open(root, "first"))

    def loader(source: Source) -> Loader:
        return Loader({"s": source}, front_end=FRONT_END, max_frames=60, max_utterances=4)

    before = loader(pinned())
    taken = [batch for step in islice(before.steps({"s": 1}), 3) for batch in step]
    state = before.state_dict()
    expected = [batch for step in islice(before.steps({"s": 1}), 9) for batch in step]
    store = Store.open(more)
    write_shard(Files(root), 2, list(store.rows())[20:], Store.open(root).identity)
    assert len(Source("s", Store.open(root))) == 30
    after = loader(pinned())
    assert same_batches(taken, [batch for step in islice(loader(pinned()).steps({"s": 1}), 3) for batch in step])
    after.load_state_dict(state)
    assert same_batches(expected, [batch for step in islice(after.steps({"s": 1}), 9) for batch in step])
    with pytest.raises(MismatchError, match="another source s"):
        loader(Source("s", Store.open(root))).load_state_dict(state)
