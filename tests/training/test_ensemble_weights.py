"""Weights of an ensemble: against a search over a grid, and from files to a file."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from training_helpers import settings

from asrkd.acoustic import load_model
from asrkd.alignment.align_store import align_store
from asrkd.cli import cli
from asrkd.errors import CorpusError, MismatchError
from asrkd.store import Store
from asrkd.training.ensemble_weights import fit, weigh
from asrkd.training.trainer import Trainer


@pytest.mark.parametrize("domain", ["probability", "log"])
def test_no_point_of_a_grid_is_better(domain: str) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (300,), generator=generator)
    # A good teacher, a fair one and one that guesses.
    log_probs = torch.stack(
        [
            (torch.randn(300, 4, generator=generator) + scale * torch.nn.functional.one_hot(labels, 4)).log_softmax(1)
            for scale in (2.0, 1.0, 0.0)
        ]
    )
    weights, loss = fit(log_probs, labels, domain=domain)
    assert sum(weights) == pytest.approx(1) and weights[0] > weights[1] > weights[2] > 0
    points = [point for point in itertools.product(range(41), repeat=2) if sum(point) <= 40]
    for first, second in points:
        weight = torch.tensor([first, second, 40 - first - second]) / 40
        if domain == "probability":
            mixed = (weight[:, None, None] * log_probs.exp()).sum(0).log()
        else:
            mixed = (weight[:, None, None] * log_probs).sum(0).log_softmax(1)
        assert loss <= float(-mixed[torch.arange(300), labels].mean()) + 1e-6


@pytest.fixture(scope="module")
def teachers(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An aligned store, and an ensemble of a teacher of 30 updates and one of 2."""
    folder = tmp_path_factory.mktemp("teachers")
    align_store(
        Store.open(str(corpus / "stores/labeled")), str(folder / "aligned"), corpus / "lexicon.txt", states_per_phone=1
    )
    for name, steps in (("good", 30), ("bad", 2)):
        config = settings(
            corpus,
            folder / name,
            inventory={"lexicon": str(corpus / "lexicon.txt"), "topology": "hmm", "states_per_phone": 1},
            sources={"labeled": {"store": str(folder / "aligned")}},
            schedule=[{"steps": steps, "mixture": {"labeled": 1}}],
            dev=None,
        )
        Trainer(config).train()
    members = [{"spec": f"checkpoint:{folder / name}"} for name in ("bad", "good")]
    (folder / "even.yaml").write_text(yaml.safe_dump({"teachers": members}))
    return folder


@pytest.mark.slow
def test_the_better_teacher_gets_the_weight(teachers: Path, tmp_path: Path) -> None:
    out = tmp_path / "weighed.yaml"
    arguments = ["weigh", str(teachers / "even.yaml"), str(teachers / "aligned"), str(out)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0 and "with the weights before" in result.output
    content = yaml.safe_load(out.read_text())
    weights = [one["weight"] for one in content["teachers"]]
    assert sum(weights) == pytest.approx(1) and weights[1] > 0.9
    assert load_model(f"ensemble:{out}").fingerprint != load_model(f"ensemble:{teachers / 'even.yaml'}").fingerprint
    found = weigh(teachers / "even.yaml", Store.open(str(teachers / "aligned")), tmp_path / "again.yaml", max_frames=50)
    assert found.frames == 50 and found.after < found.before and found.after <= min(found.alone) + 1e-6


def test_what_does_not_fit_is_told(teachers: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has no alignments to weigh teachers by"):
        weigh(teachers / "even.yaml", Store.open(str(corpus / "stores/labeled")), tmp_path / "out.yaml")
    align_store(
        Store.open(str(corpus / "stores/labeled")), str(tmp_path / "fine"), corpus / "lexicon.txt", states_per_phone=3
    )
    with pytest.raises(MismatchError, match=r"alignments with class \d+, the teachers have 3 classes"):
        weigh(teachers / "even.yaml", Store.open(str(tmp_path / "fine")), tmp_path / "out.yaml")
    assert not (tmp_path / "out.yaml").exists()
