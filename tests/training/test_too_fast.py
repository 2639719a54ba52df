from __future__ import annotations

from pathlib import Path

from graph_helpers import run_settings

from asrkd.store import Store, manifest
from asrkd.store.files import Files
from asrkd.store.writer import write_shard
from asrkd.training.trainer import Trainer


def test_utterances_that_are_too_fast_for_ctc_are_counted_once(corpus: Path, tmp_path: Path) -> None:
    store = Store.open(str(corpus / "stores/labeled"))
    rows = [row | {"text": 300 * "low " if row["id"] == "labeled-5" else row["text"]} for row in store.rows()]
    write_shard(Files(str(tmp_path / "in")), 0, rows, store.identity)
    manifest.create(Files(str(tmp_path / "in")), store.identity, dict(store.plan) | {"num_units": 1})
    phases = [{"steps": 12, "mixture": {"labeled": 1}}]
    trainer = Trainer(run_settings(corpus, tmp_path / "in", tmp_path / "run", "ctc", schedule=phases))
    trainer.train(stop_at=8)
    trainer = Trainer(run_settings(corpus, tmp_path / "in", tmp_path / "run", "ctc", schedule=phases))
    trainer.train()
    (warning,) = [one for one in trainer.warnings if "CTC tokens" in one]
    assert warning.startswith("1 labeled utterances") and "'labeled-5'" in warning
