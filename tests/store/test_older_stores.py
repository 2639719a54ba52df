"""Stores that an older asrkd wrote (`tests/data/make_stores.py`, at 076fa94) are read as before, and written as before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from asrkd.labeling.encoding import encoded_columns
from asrkd.store import Store
from asrkd.store.verify import verify
from asrkd.targets.streams import HIDDEN
from asrkd.targets.vectors import FrameVectors

STORES = Path(__file__).parents[1] / "data" / "stores"
NAMES = sorted(path.name for path in STORES.iterdir() if path.is_dir())
OF_A_LAYER = [name for name in NAMES if name.startswith("layer-")]


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(STORES / "expected.npz", allow_pickle=False) as loaded:
        return dict(loaded)


def test_there_is_one_of_each_codec() -> None:
    codecs = {Store.open(str(STORES / name)).identity.posterior_codec.spec.split(":")[0] for name in NAMES}
    assert codecs == {"dense", "topk", "nucleus", "sampled", "hybrid"}
    layers = [Store.open(str(STORES / name)).identity.streams[HIDDEN] for name in OF_A_LAYER]
    assert {codec.spec.split(":")[0] for codec in layers} == {"float16", "codebooks"}


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_those_that_were_stored(name: str, expected: dict[str, np.ndarray]) -> None:
    store = Store.open(str(STORES / name))
    assert verify(str(STORES / name)) == []
    targets = [store.targets(row) for row in store.rows()]
    counts = np.concatenate([np.diff(np.asarray(one.row_splits)) for one in targets])
    np.testing.assert_array_equal(counts, expected[f"{name}/counts"])
    for field, tolerance in (("ids", 0), ("log_probs", 1e-6), ("missing", 1e-6)):
        found = np.concatenate([np.asarray(getattr(one, field)) for one in targets])
        np.testing.assert_allclose(found, expected[f"{name}/{field}"], rtol=tolerance, atol=tolerance, err_msg=field)


@pytest.mark.parametrize("name", OF_A_LAYER)
def test_layers_are_those_that_were_stored(name: str, expected: dict[str, np.ndarray]) -> None:
    store = Store.open(str(STORES / name))
    found = store.stream(HIDDEN, list(store.rows()))
    assert isinstance(found, FrameVectors)
    np.testing.assert_array_equal(found.values, expected[f"{name}/layer"])


@pytest.mark.parametrize("name", NAMES)
def test_the_identity_is_written_as_it_was_read(name: str) -> None:
    manifest = json.loads((STORES / name / "manifest.json").read_text())
    identity = Store.open(str(STORES / name)).identity
    assert identity.to_dict() == manifest["identity"] and identity.fingerprint == manifest["fingerprint"]
    assert list(identity.to_dict()) == list(manifest["identity"])


@pytest.mark.parametrize("name", NAMES)
def test_encoding_again_gives_the_same_bytes(name: str, expected: dict[str, np.ndarray]) -> None:
    store = Store.open(str(STORES / name))
    at = 0
    for row in store.rows():
        frames, classes = row["num_frames"], len(store.identity.units)
        posteriors = expected["dense/log_probs"][at * classes : (at + frames) * classes].reshape(frames, classes)
        at += frames
        columns = encoded_columns(row["id"], torch.from_numpy(posteriors), store.identity)
        for column in store.target_columns:
            assert np.asarray(columns[column]).tobytes() == np.asarray(row[column]).tobytes(), (row["id"], column)
        for statistic in ("kept_mass", "entropy", "confidence"):
            # Digits beyond these are the processor's.
            assert columns[statistic] == pytest.approx(row[statistic], rel=1e-5), (row["id"], statistic)
