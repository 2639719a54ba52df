from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import make_teacher

from asrkd.errors import StoreError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.prior import FLOOR, log_prior, mean_posterior


@pytest.mark.parametrize("codec", ["topk:3", "hybrid:0:8"])
def test_priors_are_the_mean_of_the_stored_posteriors(codec: str, corpus: Path, tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    plan(str(corpus / "unlabeled.jsonl.gz"), root, teacher=make_teacher(tmp_path / "teacher.pt"), codec=codec)
    with pytest.raises(StoreError, match="no labeled frame yet"):
        mean_posterior(Store.open(root))
    run(Local(Store.open(root)))
    store = Store.open(root)
    dense = np.concatenate([store.targets(row).to_dense().exp().numpy() for row in store.rows()])
    np.testing.assert_allclose(mean_posterior(Store.open(root)), dense.sum(0) / dense.sum(), rtol=1e-4)
    np.testing.assert_allclose(
        np.exp(log_prior(Store.open(root))), np.maximum(mean_posterior(Store.open(root)), FLOOR), rtol=1e-5
    )


def test_a_store_of_transcripts_has_no_priors(corpus: Path) -> None:
    with pytest.raises(StoreError, match="has no soft targets to take priors from"):
        mean_posterior(Store.open(str(corpus / "stores/labeled")))
