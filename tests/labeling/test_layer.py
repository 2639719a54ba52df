"""A teacher's layer in the store: what a direct computation gives, and nothing where it is not asked for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from training_helpers import settings

from asrkd.acoustic import load_model
from asrkd.cli import cli
from asrkd.errors import ConfigError, MismatchError, StoreError
from asrkd.labeling.crew import Crew
from asrkd.labeling.job import run
from asrkd.labeling.layer import layer_outputs, make_codebooks
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.compact import compact
from asrkd.store.identity import Identity
from asrkd.store.schema import CODEBOOKS
from asrkd.store.verify import verify
from asrkd.targets.layer_codec import Codebooks, Float16, nearest_centers
from asrkd.targets.streams import HIDDEN
from asrkd.targets.vectors import FrameVectors
from asrkd.training.trainer import Trainer


@pytest.fixture(scope="module")
def teacher(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("layer")
    Trainer(settings(corpus, folder / "run", schedule=[{"steps": 3, "mixture": {"labeled": 1}}])).train()
    return f"checkpoint:{folder / 'run'}"


def stored_layer(store: Store, row: dict[str, Any]) -> np.ndarray:
    targets = store.stream(HIDDEN, [row])
    assert isinstance(targets, FrameVectors)
    return targets.values.numpy()


def test_numbers_are_those_of_the_layer(corpus: Path, tmp_path: Path, teacher: str) -> None:
    root = str(tmp_path / "store")
    arguments = ["label", "plan", str(corpus / "unlabeled.jsonl.gz"), root, "--teacher", teacher, "--embed", "audio"]
    assert CliRunner().invoke(cli, [*arguments, "--layer", "lstm"]).exit_code == 0
    run(Local(Store.open(root)))
    store = Store.open(root)
    assert store.identity.layer == "lstm" and store.identity.streams[HIDDEN] == Float16(16)
    assert verify(root) == []
    model = load_model(teacher)
    rows = list(store.rows(["id", "audio", "num_frames", "layer"]))
    assert len(rows) == 20
    for row in rows:
        samples, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
        (expected,) = layer_outputs(model, torch.from_numpy(samples)[None], "lstm")
        found = stored_layer(store, row)
        np.testing.assert_allclose(found, expected.numpy(), rtol=2e-3, atol=1e-4)


@pytest.mark.slow
def test_indexes_are_of_the_codebooks_and_the_bytes_of_any_number_of_workers(
    corpus: Path, tmp_path: Path, teacher: str
) -> None:
    books = tmp_path / "books.npy"
    cuts = str(corpus / "unlabeled.jsonl.gz")
    options = ["--teacher", teacher, "--layer", "lstm", "--count", "4", "--entries", "8"]
    result = CliRunner().invoke(cli, ["label", "codebooks", cuts, str(books), *options])
    assert result.exit_code == 0 and "4 codebooks of 8 entries" in result.output
    stores = []
    for name, workers in (("one", 1), ("two", 2)):
        root = str(tmp_path / name)
        plan(cuts, root, teacher=teacher, embed="audio", layer="lstm", codebooks=str(books), unit_hours=0.003)
        run(Local(Store.open(root), Crew(workers=workers)))
        stores.append([path.read_bytes() for path in sorted(Path(root, "shards").iterdir())])
    assert stores[0] == stores[1] and len(stores[0]) > 1
    store = Store.open(str(tmp_path / "one"))
    assert store.identity.streams[HIDDEN] == Codebooks(4, 8)
    centers, model = torch.from_numpy(np.load(books)), load_model(teacher)
    agree = total = 0
    for row in store.rows(["audio", "num_frames", "layer"]):
        samples, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
        (output,) = layer_outputs(model, torch.from_numpy(samples)[None], "lstm")
        found = stored_layer(store, row)
        agree, total = agree + int((nearest_centers(output, centers).numpy() == found).sum()), total + found.size
    assert agree > 0.999 * total  # batches of other shapes round differently
    # The codebooks are the store's own: other ones are refused by name.
    books.unlink()
    run(Local(Store.open(str(tmp_path / "one"))))
    Path(tmp_path / "one/shards/part-00000.parquet").unlink()
    run(Local(Store.open(str(tmp_path / "one"))))
    compact(Store.open(str(tmp_path / "one")), str(tmp_path / "compact"))
    assert verify(str(tmp_path / "one")) == verify(str(tmp_path / "compact")) == []
    Path(tmp_path / "one/shards/part-00000.parquet").unlink()
    np.save(tmp_path / "one" / CODEBOOKS, centers.numpy() + 1)
    assert "codebooks.npy is not the one that the store was planned with" in verify(str(tmp_path / "one"))
    with pytest.raises(MismatchError, match="codebooks.npy .* is not the one that it was planned with"):
        run(Local(Store.open(str(tmp_path / "one"))))
    (tmp_path / "one" / CODEBOOKS).unlink()
    with pytest.raises(StoreError, match="codebooks.npy of the store .* is not there"):
        run(Local(Store.open(str(tmp_path / "one"))))


def test_a_store_without_a_layer_is_as_it_was() -> None:
    assert not [name for name in Identity().to_dict() if "layer" in name or "codebooks" in name]


def test_what_cannot_be_is_refused(corpus: Path, tmp_path: Path, teacher: str) -> None:
    cuts, root = str(corpus / "unlabeled.jsonl.gz"), str(tmp_path / "store")
    with pytest.raises(ConfigError, match="layer 'lstn' is not in LSTMStudent"):
        plan(cuts, root, teacher=teacher, layer="lstn")
    with pytest.raises(ConfigError, match="given without a teacher"):
        plan(cuts, root, embed="audio", layer="lstm")
    with pytest.raises(ConfigError, match="codebooks 'x.npy' are given without the layer"):
        plan(cuts, root, teacher=teacher, codebooks="x.npy")
    with pytest.raises(ConfigError, match="codebooks 'nowhere.npy' cannot be read"):
        plan(cuts, root, teacher=teacher, layer="lstm", codebooks="nowhere.npy")
    np.save(tmp_path / "other.npy", np.zeros((2, 4, 3), dtype=np.float32))
    with pytest.raises(ConfigError, match=r"have the shape \(2, 4, 3\), which is none .* for the 16 dimensions"):
        plan(cuts, root, teacher=teacher, layer="lstm", codebooks=str(tmp_path / "other.npy"))
    with pytest.raises(ConfigError, match="3 codebooks of 256 entries cannot be fitted"):
        make_codebooks(cuts, str(tmp_path / "out.npy"), teacher=load_model(teacher), layer="lstm", count=3, entries=256)
    assert not (tmp_path / "out.npy").exists() and not Path(root, "manifest.json").exists()
