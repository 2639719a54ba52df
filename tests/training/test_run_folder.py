from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from training_helpers import settings

from asrkd import checkpoint
from asrkd import config as configs
from asrkd.config import BY_CONTENT, MAY_CHANGE
from asrkd.errors import ConfigError
from asrkd.store import Store, manifest
from asrkd.store.files import Files
from asrkd.store.writer import write_shard
from asrkd.training.config import TrainConfig
from asrkd.training.inputs import inputs
from asrkd.training.run_folder import results_of
from asrkd.training.trainer import Trainer


def marked(kind: type, mark: str, prefix: str = "") -> set[str]:
    """The keys of a config with a mark, without names and numbers of sources and phases."""
    found, hints = set(), get_type_hints(kind)
    for field in fields(kind):
        nested: Any = hints[field.name]
        classes = [one for one in (nested, *getattr(nested, "__args__", ())) if is_dataclass(one)]
        if field.metadata.get("resume") == mark:
            found.add(f"{prefix}{field.name}")
        elif classes:
            found |= marked(classes[0], mark, f"{prefix}{field.name}.")
    return found


def test_what_may_change_and_what_is_compared_by_content() -> None:
    assert marked(TrainConfig, MAY_CHANGE) == {
        "run", "device", "threads", "loader", "dev_decoding", "log_steps", "checkpoint_steps", "sequence.cache_mb",
    }  # fmt: skip
    assert marked(TrainConfig, BY_CONTENT) == {
        "inventory.lexicon", "sources.store", "sources.vocabulary_map", "sources.audio", "sequence.grammar", "augment.noise",
        "augment.reverb", "dev", "init", "inventory.store", "prior",
    }  # fmt: skip


def stopped(corpus: Path, tmp_path: Path, **changes: Any) -> Callable[..., TrainConfig]:
    """A run of ten updates that was stopped after four; gives its config with other keys."""
    lexicon = tmp_path / "lexicon.txt"
    shutil.copy(corpus / "lexicon.txt", lexicon)
    given = {
        "inventory": {"lexicon": str(lexicon), "states_per_phone": 1},
        "schedule": [{"steps": 10, "mixture": {"labeled": 1}}],
        "checkpoint_steps": 2,
    } | changes

    def make(**others: Any) -> TrainConfig:
        return configs.changed(settings(corpus, tmp_path / "run", **given), others)

    Trainer(make()).train(stop_at=4)
    return make


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(run / "final.pt")["model"]


@pytest.mark.slow
def test_a_run_goes_on_with_other_workers_and_in_another_place_to_the_same_weights(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    make = stopped(corpus, tmp_path)
    Trainer(configs.changed(make(), {"run": str(tmp_path / "whole/run")})).train()
    (tmp_path / "run").rename(tmp_path / "moved")
    shutil.copytree(corpus / "stores/labeled", tmp_path / "store")
    text = (tmp_path / "lexicon.txt").read_text()
    (tmp_path / "other.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\t", "  ").replace("\n", "\r\n").encode())
    config = make(
        run=str(tmp_path / "moved"), log_steps=3, checkpoint_steps=7, dev=str(tmp_path / "store"), threads=1,
        loader={"num_workers": 1, "prefetch": 2, "cache_mb": 1.0},
        sources={"labeled": {"store": str(tmp_path / "store")}},
        inventory={"lexicon": str(tmp_path / "other.txt")},
    )  # fmt: skip
    trainer = Trainer(config)
    assert trainer.step == 4
    trainer.train()
    assert configs.load(TrainConfig, tmp_path / "moved/config.yaml") == config
    whole = weights(tmp_path / "whole/run")
    assert all(torch.equal(value, whole[name]) for name, value in weights(tmp_path / "moved").items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, "seed: 1 there, seed: 2 here"),
        ({"optimizer": {"learning_rate": 0.5}}, "optimizer.learning_rate: 0.02 there"),
        ({"batch": {"max_frames": 300}}, "batch.max_frames: 400 there"),
        ({"dev": None}, "dev: True there, dev: False here"),
        ({"eval_steps": 7}, "eval_steps"),
        ({"front_end": {"mean_norm": "none"}}, "front_end.mean_norm: causal there, front_end.mean_norm: none here"),
        ({"schedule": [{"steps": 11, "mixture": {"labeled": 1}}]}, "schedule.0.steps: 10 there"),
        ({"sources": {"more": {"store": "x"}}}, "sources.more.kind: none there"),
    ],
)
def test_what_changes_results_is_refused_by_its_key(
    corpus: Path, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    make = stopped(corpus, tmp_path)
    config = make(**change)
    if "sources" in change:
        config.sources["more"].store = str(corpus / "stores/labeled")
    with pytest.raises(ConfigError, match=f"another config .*{named}"):
        Trainer(config)


def with_other_labels(root: str, out: str) -> None:
    """A copy of a store with the same utterances and other alignments."""
    store = Store.open(root)
    for unit in store.units():
        rows = [row | {"alignment": np.zeros(row["num_frames"], np.int32)} for row in store.rows()]
        write_shard(
            Files(out),
            unit,
            [row for row in rows if row["id"] in set(store.column(unit, "id").to_pylist())],
            store.identity,
        )
    manifest.create(Files(out), store.identity, store.plan)


@pytest.mark.slow
def test_an_input_with_another_content_is_refused_by_name(corpus: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise.flac"
    shutil.copy(corpus / "audio/labeled/labeled-0.flac", noise)
    make = stopped(corpus, tmp_path, augment={"noise": [str(noise)], "noise_probability": 0.5})
    with_other_labels(str(corpus / "stores/labeled"), str(tmp_path / "other"))
    for change, key in (
        ({"sources": {"labeled": {"store": str(tmp_path / "other")}}}, "sources.labeled.store"),
        ({"dev": str(tmp_path / "other")}, "dev"),
    ):
        with pytest.raises(ConfigError, match=f"{key} .*other'\\) has another content .*Restore it"):
            Trainer(make(**change))
    shutil.copy(corpus / "audio/labeled/labeled-1.flac", noise)
    with pytest.raises(ConfigError, match="augment.noise .*noise.flac.* has another content"):
        Trainer(make())
    shutil.copy(corpus / "audio/labeled/labeled-0.flac", tmp_path / "moved.flac")
    Trainer(make(augment={"noise": [str(tmp_path / "moved.flac")]}))
    (tmp_path / "lexicon.txt").write_text("low\th\nhigh\tl\nup\th l\n")
    with pytest.raises(ConfigError, match="inventory.lexicon .*lexicon.txt.* has another content"):
        Trainer(make())


def test_init_and_grammar_and_map_are_inputs(corpus: Path, tmp_path: Path) -> None:
    for name in ("init.pt", "grammar.arpa", "map.tsv"):
        (tmp_path / name).write_text("a\n")
    store = str(corpus / "stores/labeled")
    config = settings(
        corpus, tmp_path / "run", init=str(tmp_path / "init.pt"), prior=store, sequence={"grammar": str(tmp_path / "grammar.arpa")},
        sources={"labeled": {"store": store, "vocabulary_map": str(tmp_path / "map.tsv")}},
    )  # fmt: skip
    before = inputs(config)
    assert set(before) == {
        "inventory.lexicon", "sources.labeled.store", "sources.labeled.vocabulary_map", "sequence.grammar", "dev", "prior", "init",
    }  # fmt: skip
    for name in ("init.pt", "grammar.arpa", "map.tsv"):
        (tmp_path / name).write_text("b\n")
    assert {key for key, value in inputs(config).items() if value != before[key]} == {
        "sources.labeled.vocabulary_map", "sequence.grammar", "init",
    }  # fmt: skip
    (tmp_path / "init.pt").unlink()
    with pytest.raises(ConfigError, match="init: .*init.pt' cannot be read .No such file"):
        inputs(config)


@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on_and_is_compared_from_then_on(corpus: Path, tmp_path: Path) -> None:
    make = stopped(corpus, tmp_path)
    (tmp_path / "run/inputs.json").unlink()
    shutil.copy(corpus / "lexicon.txt", tmp_path / "moved.txt")
    with pytest.raises(ConfigError, match="another config .*inventory.lexicon: .*lexicon.txt there"):
        Trainer(make(inventory={"lexicon": str(tmp_path / "moved.txt")}))
    assert Trainer(make(loader={"num_workers": 1})).step == 4
    assert "inventory.lexicon" in json.loads((tmp_path / "run/inputs.json").read_text())
    (tmp_path / "lexicon.txt").write_text("low\th\nhigh\tl\nup\th l\n")
    with pytest.raises(ConfigError, match="has another content"):
        Trainer(make())


@pytest.mark.slow
def test_a_run_that_has_no_checkpoint_yet_takes_the_inputs_as_they_are(corpus: Path, tmp_path: Path) -> None:
    make = stopped(corpus, tmp_path)
    (tmp_path / "run/last.pt").unlink()
    (tmp_path / "lexicon.txt").write_text("low\th\nhigh\tl\nup\th l\n")
    Trainer(make()).train(stop_at=2)
    shutil.copy(corpus / "lexicon.txt", tmp_path / "lexicon.txt")
    with pytest.raises(ConfigError, match="has another content"):
        Trainer(make())


def test_results_of_has_every_key_without_a_mark() -> None:
    config = configs.from_dict(
        TrainConfig,
        {
            "run": "r",
            "inventory": {"lexicon": "l"},
            "sources": {"a": {"store": "s"}},
            "schedule": [{"steps": 1, "mixture": {"a": 1}}],
        },
    )
    found = results_of(config)
    assert found["sources.a.store"] is True and found["sources.a.weight"] == 1.0 and found["schedule.0.mixture.a"] == 1
    assert not [key for key in found if key.startswith(("run", "loader", "device"))]
    assert results_of(config, with_paths=True)["sources.a.store"] == "s"
