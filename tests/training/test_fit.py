"""A training that does not fit its own training set says so; one that does is silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from training_helpers import settings

from asrkd import config as configs
from asrkd.alignment.align_store import align_store
from asrkd.cli import cli
from asrkd.store import Store, manifest
from asrkd.store.files import Files
from asrkd.store.writer import write_shard
from asrkd.training import fit
from asrkd.training.trainer import Trainer


def changed(root: str, out: Path, change: Any) -> str:
    """A copy of a store with other hard labels."""
    store = Store.open(root)
    rows = {row["id"]: row | change(row) for row in store.rows()}
    for unit in store.units():
        write_shard(Files(str(out)), unit, [rows[key] for key in store.column(unit, "id").to_pylist()], store.identity)
    manifest.create(Files(str(out)), store.identity, store.plan)
    return str(out)


@pytest.fixture(scope="module")
def stores(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`hmm` and `ctc` with the right labels, and `hmm-wrong`, `ctc-wrong` with those of other speech."""
    folder, rng = tmp_path_factory.mktemp("stores"), np.random.default_rng(0)
    plain = str(corpus / "stores/labeled")
    align_store(Store.open(plain), str(folder / "hmm"), corpus / "lexicon.txt", states_per_phone=1)
    changed(plain, folder / "ctc", lambda row: {})
    # The same labels at other places: as many of each class, and nothing that the speech could tell.
    changed(str(folder / "hmm"), folder / "hmm-wrong", lambda row: {"alignment": rng.permutation(row["alignment"])})
    words = ["low", "high", "up"]
    changed(plain, folder / "ctc-wrong", lambda row: {"text": " ".join(rng.choice(words, len(row["text"].split())))})
    return folder


def config(corpus: Path, run: Path, store: Path, topology: str) -> Any:
    return settings(
        corpus,
        run,
        inventory={"lexicon": str(corpus / "lexicon.txt"), "topology": topology, "states_per_phone": 1},
        sources={"labeled": {"store": str(store)}},
        # Wrong labels of so little speech can be learned by heart, which takes longer.
        schedule=[{"steps": {"hmm": 30, "ctc": 120}[topology], "mixture": {"labeled": 1}}],
        optimizer={"learning_rate": 0.03, "warmup_steps": 5, "ema_decay": 0.9},
        model={"args": {"hidden_dim": 32, "num_layers": 1, "output_delay": 1, "dropout": 0.0}},
        augment={},
        dev=None,
        log_steps=60,
        checkpoint_steps=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["hmm", "ctc"])
def test_wrong_labels_are_told_and_right_ones_are_not(
    corpus: Path, stores: Path, tmp_path: Path, topology: str
) -> None:
    said = {}
    for name in (topology, f"{topology}-wrong"):
        trainer = Trainer(config(corpus, tmp_path / name, stores / name, topology))
        trainer.train()
        said[name] = trainer.warnings
        # Started again, the finished run says the same.
        again = Trainer(config(corpus, tmp_path / name, stores / name, topology))
        assert again.train() == {} and again.warnings == trainer.warnings
    assert said[topology] == []
    (warning,) = said[f"{topology}-wrong"]
    assert "does not fit its own training set: on utterances of 'labeled'" in warning
    (tmp_path / "config.yaml").write_text(
        configs.to_yaml(config(corpus, tmp_path / f"{topology}-wrong", stores / f"{topology}-wrong", topology))
    )
    result = CliRunner().invoke(cli, ["train", str(tmp_path / "config.yaml")])
    assert result.exit_code == 0 and "warning: the result does not fit its own training set" in result.stderr


def test_speech_without_hard_labels_is_left_out(corpus: Path, tmp_path: Path) -> None:
    """A schedule of LF-MMI alone needs none."""
    trainer = Trainer(config(corpus, tmp_path / "run", corpus / "stores/labeled", "hmm"))
    assert fit.losses(trainer, "labeled") == (0.0, 0.0)
    fit.Fit().finish(trainer)
    assert trainer.warnings == []


def test_the_losses_are_those_of_the_definition(corpus: Path, stores: Path, tmp_path: Path) -> None:
    trainer = Trainer(config(corpus, tmp_path / "run", stores / "hmm", "hmm"))
    trainer.train(stop_at=10)
    loss, blind = fit.losses(trainer, "labeled")
    posteriors, labels = [], []
    with torch.no_grad():
        for batch in trainer.loader.epoch("labeled"):
            assert batch.alignment is not None
            for n, length in enumerate(batch.num_frames.tolist()):
                features = batch.features[n : n + 1, : int(batch.feature_lengths[n])]
                logits, _ = trainer.averaged_students[0](features, batch.feature_lengths[n : n + 1])
                posteriors.append(logits[0].double().softmax(-1))
                labels.append(batch.alignment[n, :length])
    q, labels_ = torch.cat(posteriors), torch.cat(labels)
    assert loss == pytest.approx(-float(q[torch.arange(len(q)), labels_].log().mean()), rel=1e-4)
    assert blind == pytest.approx(-float(q.mean(0).log()[labels_].mean()), rel=1e-4)
