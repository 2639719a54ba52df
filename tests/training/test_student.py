"""Objectives that see a student's outputs, and what is trained by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from graph_helpers import run_settings
from rank_helpers import on_ranks
from torch import Tensor, nn
from torch.nn import functional
from training_helpers import settings

from asrkd.errors import MismatchError
from asrkd.sequence.losses import SequenceLoss
from asrkd.streaming.batch import Batch, Utterance, collate
from asrkd.training.metrics import read_metrics
from asrkd.training.student import Learner, Losses, Student, StudentOutput, WeightedSum
from asrkd.training.trainer import Trainer


class Consistency(nn.Module):
    """Two more forward passes of a student, of masked features, whose projected posteriors should agree: the seam that CR-CTC needs."""

    layers = ("lstm",)

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(classes, classes)
        self.width = width

    def forward(self, student: Student, batch: Batch) -> Losses:
        masked = [batch.features.clone() for _ in range(2)]
        masked[0][..., :10], masked[1][..., 10:20] = 0.0, 0.0
        one, other = (student.forward(features, batch.feature_lengths) for features in masked)
        assert one.layers["lstm"].shape == (*one.logits.shape[:2], self.width)
        agree = functional.kl_div(
            self.projection(one.logits).log_softmax(-1), other.logits.softmax(-1), reduction="none"
        ).sum(-1)
        loss = agree[one.mask].mean()
        return loss, {f"{batch.source[0]}_consistency": float(loss.detach())}


def trained(rank: int, world_size: int, corpus: Path, run: Path, weight: float = 0.5) -> dict[str, Tensor]:
    config = settings(
        corpus,
        run,
        schedule=[{"steps": 6, "mixture": {"labeled": 1}}],
        batch={"max_frames": 150, "max_utterances": 3, "streams": 2, "block_utterances": 8},
        augment={},
        log_steps=1,
    )
    torch.manual_seed(5)
    trainer = Trainer(config, objectives=[(weight, Consistency(3, 16))])
    for stop in (3, 6):
        trainer.train(stop_at=stop)
    return dict(trainer.learner.state_dict())


@pytest.mark.slow
def test_an_objective_of_ones_own_runs_the_student_again_on_one_process_and_on_two(
    corpus: Path, tmp_path: Path
) -> None:
    alone = trained(0, 1, corpus, tmp_path / "alone")
    without = trained(0, 1, corpus, tmp_path / "without", 0.0)
    assert {name.partition(".")[0] for name in alone} == {"students", "helpers"}
    # Its own weights and the student's learn from it.
    for name in ("helpers.0.projection.weight", "students.0.output.weight"):
        assert not torch.equal(alone[name], without[name])
    both = on_ranks(2, trained, corpus, tmp_path / "both")
    for one in both:
        for name, value in alone.items():
            torch.testing.assert_close(one[name], value, rtol=1e-3, atol=1e-4)
    assert all({"labeled", "labeled_consistency"} <= line.keys() for line in read_metrics(tmp_path / "alone")[:2])
    assert not [name for name in torch.load(tmp_path / "alone/final.pt")["model"] if "projection" in name]


def test_a_run_is_not_resumed_without_the_weights_of_its_objectives(corpus: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"schedule": [{"steps": 2, "mixture": {"labeled": 1}}]}
    Trainer(settings(corpus, tmp_path / "run", **changes), objectives=[(1.0, Consistency(3, 16))]).train(stop_at=1)
    with pytest.raises(MismatchError, match=r"other students or objectives .*helpers.0.projection.*resume with"):
        Trainer(settings(corpus, tmp_path / "run", **changes))


class Frames(nn.Module):
    """A model of a user's own: logits and lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(2, 4), nn.Linear(4, 3)
        self.calls = 0

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self.output(self.hidden(features)), lengths


def test_a_weighted_sum_is_that_of_its_terms_over_one_forward_pass() -> None:
    batch = collate(
        [Utterance(f"u{n}", "some", torch.randn(length, 2), length, 1.0) for n, length in enumerate((5, 3))]
    )

    def squares(student: Student, batch: Batch) -> Losses:
        return student.output.logits[student.output.mask].square().sum(), {"squares": 1.0}

    class Hidden:
        layers = ("hidden",)

        def __call__(self, student: Student, batch: Batch) -> Losses:
            return student.output.layers["hidden"][student.output.mask].sum(), {"hidden": 2.0}

    def peers(student: Student, batch: Batch) -> Losses:
        return sum((peer.output.logits.mean() for peer in student.peers), start=torch.zeros(())), {}

    objective = WeightedSum([(2.0, squares), (0.25, Hidden()), (3.0, peers)], {"some": 0.5, "other": 9.0})
    models = [Frames(), Frames()]
    total, figures = Learner(models, [term for _, term in objective.terms])(batch, objective)
    assert figures == {"squares": 1.0, "hidden": 2.0} and [model.calls for model in models] == [1, 1]
    expected = torch.zeros(())
    for model, other in (models, models[::-1]):
        mask = torch.arange(5)[None] < batch.feature_lengths[:, None]
        expected = expected + 0.5 * 2.0 * model(batch.features, None)[0][mask].square().sum()
        expected = expected + 0.5 * 0.25 * model.hidden(batch.features)[mask].sum()
        expected = expected + 0.5 * 3.0 * other(batch.features, None)[0].mean()
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_a_sequence_phase_smooths_its_criterion_with_the_frame_loss(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: float
) -> None:
    """The lattices stand aside, so that no k2 is needed."""

    def toy(scores: Tensor, lengths: Tensor, *args: Any, **kwargs: Any) -> SequenceLoss:
        return SequenceLoss(scores.square().sum((1, 2)), {0: "no path"})

    module = "asrkd.training.sequence"
    monkeypatch.setattr(f"{module}.topology_of", lambda inventory: None)
    monkeypatch.setattr(f"{module}.SequenceObjective._make_word_graph", lambda self: torch.zeros(1))
    monkeypatch.setattr(f"{module}.SequenceObjective._numerator_graphs", lambda self, *given: None)
    monkeypatch.setattr(f"{module}.mmi", toy)
    store = str(corpus / "stores/labeled")
    config = run_settings(
        corpus,
        Path(store),
        tmp_path / "run",
        "ctc",
        sources={"labeled": {"store": store, "weight": weight}},
        schedule=[{"steps": 2, "mixture": {"labeled": 1}, "criterion": "mmi"}],
        sequence={"smoothing": 0.25, "acoustic_scale": 2.0},
    )
    trainer = Trainer(config)
    batch = next(trainer.loader.epoch("labeled"))
    trainer.model.eval()
    logits, lengths = trainer.model(batch.features, batch.feature_lengths)
    frame, _ = trainer.objectives.frame(Student(lambda *_: StudentOutput(logits, lengths), batch), batch)
    criterion = (logits.log_softmax(-1) * 2).square().sum() / lengths.sum()
    trainer.learner.eval()
    total, figures = trainer.learner(batch, trainer.objectives.of("mmi", batch))
    torch.testing.assert_close(total, weight * (0.75 * criterion + 0.25 * frame))
    assert set(figures) == {"labeled", "labeled_mmi", "labeled_skipped"}
    trainer.train()
    assert (tmp_path / "run/skipped.tsv").read_text().endswith("\tno path\n")
