"""Stores on the hub: what is pushed and pulled is the same store; without a network there is one line, at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store.hub_server import HubServer, hub

from asrkd.corpus.cuts import iterate_json
from asrkd.errors import AsrkdError
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.share import Pushed, pull, push
from asrkd.store.verify import verify


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with hub() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield found


def pushed(store: Path, *, with_plan: bool = False, dry_run: bool = False) -> Pushed:
    return push(
        Store.open(str(store)), "me/tones", card="# Tones\n", private=True, with_plan=with_plan, dry_run=dry_run
    )


@pytest.mark.parametrize("with_plan", [False, True])
def test_a_store_that_was_pushed_is_pulled_whole(
    with_plan: bool, server: HubServer, corpus: Path, tmp_path: Path
) -> None:
    root = corpus / "stores/labeled"
    found = pushed(root, with_plan=with_plan)
    there = server.datasets["me/tones"]
    assert there["README.md"] == b"# Tones\n" and any(name.startswith("plan/") for name in there) == with_plan
    assert found.files == len(there) - 1 and found.num_bytes == sum(map(len, there.values())) - len(there["README.md"])
    assert str(corpus).encode() not in b"".join(there.values()) or with_plan
    store = pull("me/tones", tmp_path / "store")
    assert not verify(str(tmp_path / "store")) and not list(tmp_path.glob(".store*"))
    assert [row["id"] for row in store.rows(["id"])] == [row["id"] for row in Store.open(str(root)).rows(["id"])]
    for name, data in there.items():
        assert (tmp_path / "store" / name).read_bytes() == data
    with pytest.raises(AsrkdError, match="is there already"):
        pull("me/tones", tmp_path / "store")


def test_a_card_that_is_there_stays(server: HubServer, corpus: Path) -> None:
    server.datasets["me/tones"] = {"README.md": b"# Written by hand\n"}
    pushed(corpus / "stores/labeled")
    assert server.datasets["me/tones"]["README.md"] == b"# Written by hand\n"


def test_a_store_that_is_damaged_or_not_finished_is_not_pushed_and_a_dry_run_asks_nothing(
    server: HubServer, corpus: Path, tmp_path: Path
) -> None:
    assert pushed(corpus / "stores/labeled", dry_run=True).files > 2
    plan(str(corpus / "labeled.jsonl.gz"), str(tmp_path / "planned"), embed="audio")
    with pytest.raises(AsrkdError, match="so it is not pushed; the first: shards/part-00000.parquet is not there"):
        pushed(tmp_path / "planned")
    assert not server.asked


@pytest.mark.parametrize("with_plan", [False, True])
def test_what_was_lost_on_the_way_is_told(with_plan: bool, server: HubServer, corpus: Path, tmp_path: Path) -> None:
    pushed(corpus / "stores/labeled", with_plan=with_plan)
    there = server.datasets["me/tones"]
    whole = dict(there)
    name = max(one for one in there if one.startswith("shards/"))
    there[name] = b"PAR1" + there[name][4:-30] + b"x" * 30
    with pytest.raises(AsrkdError, match="so it is not kept"):
        pull("me/tones", tmp_path / "store")
    there.clear()
    there.update({one: data for one, data in whole.items() if one != name})
    with pytest.raises(AsrkdError, match="so it is not kept; the first: .* is not there"):
        pull("me/tones", tmp_path / "store")
    assert not list(tmp_path.glob("*store*"))
    there.clear()
    there["README.md"] = b"no store"
    with pytest.raises(AsrkdError, match="manifest.json"):
        pull("me/tones", tmp_path / "store")
    with pytest.raises(AsrkdError, match="RepositoryNotFound.*sign in"):
        pull("me/gone", tmp_path / "store")


def test_a_corpus_of_the_hub(server: HubServer, corpus: Path) -> None:
    pushed(corpus / "stores/labeled")
    cuts = list(iterate_json("hf://datasets/me/tones/shards"))
    assert [cut["id"] for cut in cuts] == [row["id"] for row in Store.open(str(corpus / "stores/labeled")).rows(["id"])]
    assert list(iterate_json("parquet:hf://datasets/me/tones@main/shards/*.parquet?id=id")) == cuts


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no.such.host.invalid"])
def test_without_a_network_there_is_one_line(
    endpoint: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for work in (
        lambda: pushed(corpus / "stores/labeled"),
        lambda: pull("me/tones", tmp_path / "store"),
        lambda: list(iterate_json("hf://datasets/me/tones")),
    ):
        with pytest.raises(AsrkdError, match="is there a network") as refused:
            work()
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("repo", ["tones", "a/b/c", "a/", "/b", "ü/b", "https://huggingface.co/a/b"])
def test_a_name_that_is_none_is_refused(repo: str, tmp_path: Path) -> None:
    with pytest.raises(AsrkdError, match="OWNER/NAME"):
        pull(repo, tmp_path / "store")
