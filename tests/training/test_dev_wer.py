"""The word error rate while training is that of decoding the same model afterwards."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_helpers import settings

from asrkd.acoustic import load_model
from asrkd.alignment.align_store import align_store
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.decoding.search import Search
from asrkd.evaluation.wer import score, total
from asrkd.store import Store
from asrkd.training.dev_wer import DevWer
from asrkd.training.metrics import read_metrics
from asrkd.training.trainer import Trainer


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["ctc", "hmm"])
def test_it_is_the_rate_of_decoding_afterwards(corpus: Path, tmp_path: Path, topology: str) -> None:
    store = str(corpus / "stores/labeled")
    changes: dict[str, Any] = {"dev_decoding": {"every": 2}, "eval_steps": 5}
    if topology == "hmm":
        align_store(Store.open(store), str(tmp_path / "aligned"), corpus / "lexicon.txt", states_per_phone=1)
        store = str(tmp_path / "aligned")
        changes["inventory"] = {"lexicon": str(corpus / "lexicon.txt"), "topology": "hmm", "states_per_phone": 1}
        changes |= {"sources": {"labeled": {"store": store}}, "dev": store}
    trainer = Trainer(settings(corpus, tmp_path / "run", **changes))
    last = trainer.train()
    lines = [line for line in read_metrics(tmp_path / "run") if "dev" in line]
    assert [line["step"] for line in lines if "dev_wer" in line] == [10, 20, 30]
    assert lines[0]["step"] == 5 and last["dev_wer"] == lines[-1]["dev_wer"]
    model = load_model(str(tmp_path / "run"))
    dev = EvaluationSet.read(str(corpus / "labeled.jsonl.gz"))
    log_probs = AcousticScores(model, dev, prior_scale=0.0)
    seen = np.concatenate([np.exp(one, dtype=np.float64) for _, one in log_probs])
    model = dataclasses.replace(model, log_prior=torch.from_numpy(np.log(seen.mean(axis=0)).astype(np.float32)))
    texts = Search(trainer.lexicon, model, beam=16.0).texts(AcousticScores(model, dev))
    assert last["dev_wer"] == pytest.approx(total(score(dev.references, texts, dev.speakers)).rate)


def test_without_settings_nothing_is_decoded(corpus: Path, tmp_path: Path) -> None:
    for name, changes in (("one", {}), ("two", {"dev": None, "dev_decoding": {"every": 1}})):
        trainer = Trainer(settings(corpus, tmp_path / name, **changes))
        assert not any(isinstance(callback, DevWer) for callback in trainer.callbacks)
