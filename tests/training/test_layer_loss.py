"""A student that also learns from a layer of its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rank_helpers import on_ranks
from training_helpers import settings

from asrkd import checkpoint
from asrkd.acoustic import load_model
from asrkd.errors import ConfigError
from asrkd.labeling.job import run
from asrkd.labeling.layer import make_codebooks
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.training.metrics import read_metrics
from asrkd.training.trainer import Trainer


@pytest.fixture(scope="module")
def stores(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`numbers` and `indexes` of a teacher's layer, and `plain` without one."""
    folder = tmp_path_factory.mktemp("layers")
    Trainer(settings(corpus, folder / "teacher")).train()
    cuts, teacher = str(corpus / "unlabeled.jsonl.gz"), f"checkpoint:{folder / 'teacher'}"
    books = str(folder / "books.npy")
    make_codebooks(cuts, books, teacher=load_model(teacher), layer="lstm", count=4, entries=8)
    for name, options in (
        ("numbers", {"layer": "lstm"}),
        ("indexes", {"layer": "lstm", "codebooks": books}),
        ("plain", {}),
    ):
        plan(cuts, str(folder / name), teacher=teacher, embed="audio", **options)  # type: ignore[arg-type]
        run(Local(Store.open(str(folder / name))))
    return folder


def config(corpus: Path, folder: Path, store: Path, loss: str, **changes: Any) -> Any:
    given: dict[str, Any] = {
        "sources": {
            "labeled": {"store": str(corpus / "stores/labeled")},
            "soft": {"store": str(store), "kind": "soft"},
        },
        "schedule": [{"steps": 30, "mixture": {"soft": 2, "labeled": 1}}],
        "layer_loss": {"layer": "lstm", "loss": loss, "weight": 2.0},
        # Another width than the teacher's.
        "model": {"args": {"hidden_dim": 12, "num_layers": 1, "output_delay": 2, "dropout": 0.0}},
        "augment": {},
        "log_steps": 3,
    }
    return settings(corpus, folder, **(given | changes))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["mse", "cosine", "similarity", "attention", "codebooks"])
def test_the_student_comes_closer_to_the_teachers_layer_and_goes_on_exactly(
    corpus: Path, stores: Path, tmp_path: Path, loss: str
) -> None:
    store = stores / ("indexes" if loss == "codebooks" else "numbers")
    Trainer(config(corpus, tmp_path / "whole", store, loss)).train()
    apart = [line["soft_layer"] for line in read_metrics(tmp_path / "whole") if "soft_layer" in line]
    assert apart[-1] < 0.95 * apart[0]
    whole = checkpoint.read(tmp_path / "whole/final.pt")["model"]
    assert not [name for name in whole if "projection" in name]
    load_model(f"checkpoint:{tmp_path / 'whole'}")
    # How a run continues is the same for all of them.
    for stop in (4, 30) if loss == "mse" else ():
        Trainer(config(corpus, tmp_path / "parts", store, loss)).train(stop_at=stop)
    for name, value in whole.items() if loss == "mse" else ():
        assert torch.equal(value, checkpoint.read(tmp_path / "parts/final.pt")["model"][name])


def trained(rank: int, world_size: int, corpus: Path, run: Path, store: Path) -> dict[str, torch.Tensor]:
    batch = {"max_frames": 150, "max_utterances": 3, "streams": 2, "block_utterances": 8}
    schedule = [{"steps": 4, "mixture": {"soft": 1, "labeled": 1}}]
    trainer = Trainer(config(corpus, run, store, "mse", batch=batch, schedule=schedule))
    trainer.train()
    return dict(trainer.learner.state_dict())


@pytest.mark.slow
def test_two_processes_make_the_updates_of_one(corpus: Path, stores: Path, tmp_path: Path) -> None:
    """Also in updates where a process has no batch with a layer."""
    alone = trained(0, 1, corpus, tmp_path / "alone", stores / "numbers")
    for one in on_ranks(2, trained, corpus, tmp_path / "both", stores / "numbers"):
        for name, value in alone.items():
            torch.testing.assert_close(one[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "changes", "message"),
    [
        ("plain", {}, "hidden targets are wanted, but the store .* has none.*--layer"),
        (
            "numbers",
            {"layer_loss": {"layer": "lstm", "loss": "l1"}},
            "^layer_loss.loss: must be one of mse, cosine.*'l1'",
        ),
        ("numbers", {"layer_loss": {"layer": "lstm", "loss": "codebooks"}}, "store's layer is 'float16:16'"),
        ("indexes", {}, "store's layer is 'codebooks:4:8'"),
        ("numbers", {"layer_loss": {"layer": "gru"}}, "layer 'gru' is not in LSTMStudent"),
        ("numbers", {"mutual": {"students": 2}}, "mutual.students or chunk_frames is set, too"),
    ],
)
def test_what_does_not_go_together(
    corpus: Path, stores: Path, tmp_path: Path, store: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainer(config(corpus, tmp_path / "run", stores / store, "mse", **changes))
