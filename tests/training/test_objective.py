"""The objective of a batch against dense computations in double precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import ConfigError, CorpusError
from asrkd.streaming.batch import Batch, Utterance, collate
from asrkd.targets.codecs import TopK
from asrkd.targets.packed import as_stored
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import POSTERIORS
from asrkd.training.objective import FrameObjective, HardLossConfig, SoftLossConfig
from asrkd.training.student import Losses, Objective, Student, StudentOutput

FRAMES = (6, 4)


@pytest.fixture
def lexicon(tmp_path: Path) -> Lexicon:
    (tmp_path / "lexicon.txt").write_text("AB a b\nC c\n")
    return Lexicon.read(tmp_path / "lexicon.txt")


def make(lexicon: Lexicon, topology: str, **soft: Any) -> FrameObjective:
    inventory = Inventory.from_lexicon(lexicon, topology, states_per_phone=1)
    return FrameObjective(lexicon, inventory, {"soft": "soft"}, SoftLossConfig(**soft))


def batch_of(classes: int, *, labels: bool = True) -> tuple[Batch, Tensor]:
    """Two utterances with every class kept, a transcript and an alignment each; and their posteriors, frame after frame."""
    rng = np.random.default_rng(0)
    posteriors = [torch.tensor(rng.normal(size=(length, classes)) * 3).log_softmax(1) for length in FRAMES]
    utterances = [
        Utterance(
            f"u{number}",
            "soft",
            torch.zeros(length, 2),
            length,
            1.0,
            streams={POSTERIORS: as_stored(TopK(classes), log_probs)},
            alignment=rng.integers(0, classes, length) if labels else None,
            text="AB C" if labels else None,
        )
        for number, (length, log_probs) in enumerate(zip(FRAMES, posteriors, strict=True))
    ]
    stored = [one.targets.to_dense().double().exp() for one in utterances if one.targets]
    probs = torch.cat(stored)
    return collate(utterances), probs / probs.sum(1, keepdim=True)


def student(classes: int) -> tuple[Tensor, Tensor]:
    logits = torch.randn(2, max(FRAMES), classes, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return logits.requires_grad_(), torch.tensor(FRAMES)


def loss_of(objective: Objective, logits: Tensor, lengths: Tensor, batch: Batch) -> Losses:
    return objective(Student(lambda features, feature_lengths: StudentOutput(logits, lengths), batch), batch)


def flat(logits: Tensor) -> Tensor:
    return torch.cat([one[:length] for one, length in zip(logits, FRAMES, strict=True)])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_alpha_weighs_soft_targets_against_the_labels_of_the_same_frames(
    lexicon: Lexicon, alpha: float, temperature: float
) -> None:
    objective = make(lexicon, "hmm", alpha=alpha, temperature=temperature)
    classes = len(objective.inventory)
    batch, targets = batch_of(classes)
    logits, lengths = student(classes)
    loss, losses = loss_of(objective, logits, lengths, batch)
    tempered = (targets.log() / temperature).softmax(1)
    soft = -(tempered * (flat(logits) / temperature).log_softmax(1)).sum() * temperature**2 / sum(FRAMES)
    assert batch.alignment is not None
    labels = torch.cat([one[:length] for one, length in zip(batch.alignment, FRAMES, strict=True)])
    hard = functional.cross_entropy(flat(logits), labels)
    expected = alpha * soft + (1 - alpha) * hard
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)  # stored in single precision
    found, wanted = (torch.autograd.grad(one, logits)[0] for one in (loss, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert losses["soft"] == pytest.approx(float(expected.detach()), rel=1e-5)
    assert ("soft_hard" in losses) == (alpha < 1)


def test_alpha_below_one_needs_labels(lexicon: Lexicon) -> None:
    for topology, message in (("hmm", "has no alignments"), ("ctc", "has no transcript.*soft_loss.alpha to 1")):
        objective = make(lexicon, topology, alpha=0.5)
        batch, _ = batch_of(len(objective.inventory), labels=False)
        with pytest.raises(CorpusError, match=message):
            loss_of(objective, *student(len(objective.inventory)), batch)


def test_pseudo_labels_are_the_teachers_top_classes(lexicon: Lexicon) -> None:
    objective = make(lexicon, "hmm", targets="top")
    batch, targets = batch_of(len(objective.inventory))
    logits, lengths = student(len(objective.inventory))
    loss, _ = loss_of(objective, logits, lengths, batch)
    torch.testing.assert_close(loss, functional.cross_entropy(flat(logits), targets.argmax(1)))


def test_a_pseudo_transcript_is_the_teachers_best_path(lexicon: Lexicon) -> None:
    objective = make(lexicon, "ctc", targets="top")
    batch, targets = batch_of(len(objective.inventory))
    logits, lengths = student(len(objective.inventory))
    loss, _ = loss_of(objective, logits, lengths, batch)
    expected = logits.new_zeros(())
    for one, top in zip(logits, targets.argmax(1).split(list(FRAMES)), strict=True):
        tokens = [int(label) for label in torch.unique_consecutive(top) if label]
        log_q = one[: len(top)].log_softmax(1)[:, None]
        args = (torch.tensor([tokens]), torch.tensor([len(top)]), torch.tensor([len(tokens)]))
        expected = expected + functional.ctc_loss(log_q, *args, reduction="sum")
    torch.testing.assert_close(loss, expected / sum(FRAMES))


@pytest.mark.parametrize(("around", "delay"), [(0, 0), (1, 0), (None, 2), (1, 2)])
def test_selected_and_delayed_frames(lexicon: Lexicon, around: int | None, delay: int) -> None:
    objective = make(lexicon, "ctc", around_labels=around, delay=delay)
    batch, targets = batch_of(len(objective.inventory))
    logits, lengths = student(len(objective.inventory))
    loss, _ = loss_of(objective, logits, lengths, batch)
    terms = []
    for one, p in zip(logits, targets.split(list(FRAMES)), strict=True):
        top = p.argmax(1).tolist()
        for t in range(len(p) - delay):
            near = top if around is None else top[max(0, t - around) : t + around + 1]
            if around is None or any(near):
                terms.append(-(p[t] * one[t + delay].log_softmax(0)).sum())
    assert 0 < len(terms) < sum(FRAMES) or (around, delay) == (1, 0)
    torch.testing.assert_close(loss, torch.stack(terms).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("around", "delay", "window"), [(None, 0, 2), (0, 0, 1), (1, 1, 2), (None, 3, 9)])
def test_a_window_of_delays_takes_the_best_one_of_each_frame(
    lexicon: Lexicon, around: int | None, delay: int, window: int
) -> None:
    objective = make(lexicon, "ctc", around_labels=around, delay=delay, delay_window=window)
    batch, targets = batch_of(len(objective.inventory))
    logits, lengths = student(len(objective.inventory))
    loss, figures = loss_of(objective, logits, lengths, batch)
    terms, delays = [], []
    for one, p in zip(logits, targets.split(list(FRAMES)), strict=True):
        top = p.argmax(1).tolist()
        for t in range(len(p) - delay):
            near = top if around is None else top[max(0, t - around) : t + around + 1]
            if around is None or any(near):
                log_q = one[t + delay : min(t + delay + window + 1, len(p))].log_softmax(1)
                costs = [-(p[t] * frame).sum() for frame in log_q]
                terms.append(min(costs, key=Tensor.item))
                delays += [delay + costs.index(terms[-1])] if top[t] else []
    torch.testing.assert_close(loss, torch.stack(terms).mean(), rtol=1e-5, atol=1e-6)
    found, wanted = (torch.autograd.grad(one, logits)[0] for one in (loss, torch.stack(terms).mean()))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert figures["soft_delay"] == pytest.approx(np.mean(delays))


def squared(logits: Tensor, targets: SparseTargets, batch: Batch) -> Tensor:
    """A loss of a user's own: squared error of probabilities, over classes that are all kept."""
    return (logits.softmax(1) - targets.log_probs.view_as(logits).softmax(1)).square().sum()


def test_a_loss_of_ones_own_is_one_function(lexicon: Lexicon) -> None:
    objective = make(lexicon, "hmm", function=f"{__name__}:squared")
    batch, targets = batch_of(len(objective.inventory))
    logits, lengths = student(len(objective.inventory))
    loss, _ = loss_of(objective, logits, lengths, batch)
    torch.testing.assert_close(
        loss, (flat(logits).softmax(1) - targets).square().sum() / sum(FRAMES), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("topology", "soft", "message"),
    [
        ("hmm", {"targets": "hard"}, "^soft_loss.targets: must be one of soft, top, not 'hard'"),
        ("hmm", {"alpha": 1.5}, "^soft_loss.alpha: .*1.5"),
        ("hmm", {"missing_mass": "none"}, "^soft_loss.missing_mass: must be one of zero, renorm.*'none'"),
        ("hmm", {"temperature": 0.0}, "^soft_loss.temperature: must be above 0, not 0.0"),
        ("hmm", {"delay": -1}, "^soft_loss.delay: must be at least 0, not -1"),
        ("ctc", {"delay_window": -1}, "^soft_loss.delay_window: must be at least 0, not -1"),
        ("ctc", {"delay_window": 2, "targets": "top"}, "^soft_loss.delay_window: is 2, but targets is 'top'"),
        ("ctc", {"delay_window": 2, "function": "a:b"}, "^soft_loss.delay_window: is 2, but function is 'a:b'"),
        ("ctc", {"delay": 1, "targets": "top"}, "^soft_loss.delay: is 1, but with targets 'top' and topology 'ctc'"),
        ("ctc", {"around_labels": 0, "targets": "top"}, "^soft_loss.around_labels: is 0, but with targets 'top'"),
        ("ctc", {"function": f"{__name__}:squared", "targets": "top"}, "^soft_loss.function: is .* with targets 'top'"),
        ("ctc", {"around_labels": -2}, "^soft_loss.around_labels: must be at least 0, not -2"),
        ("hmm", {"around_labels": 1}, "'hmm' has no blank"),
        ("ctc", {"function": "asrkd.losses:soft_kll"}, "soft_loss.function .* did you mean 'soft_kl'"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    lexicon: Lexicon, topology: str, soft: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(lexicon, topology, **soft)


def test_labels_are_smoothed_for_hmm_alone(lexicon: Lexicon) -> None:
    inventory = Inventory.from_lexicon(lexicon, "hmm", states_per_phone=1)
    objective = FrameObjective(
        lexicon, inventory, {"soft": "labeled"}, SoftLossConfig(), HardLossConfig(label_smoothing=0.2)
    )
    batch, _ = batch_of(len(inventory))
    logits, lengths = student(len(inventory))
    loss, _ = loss_of(objective, logits, lengths, batch)
    assert batch.alignment is not None
    labels = torch.cat([one[:length] for one, length in zip(batch.alignment, FRAMES, strict=True)])
    torch.testing.assert_close(loss, functional.cross_entropy(flat(logits), labels, label_smoothing=0.2))
    with pytest.raises(ConfigError, match="^hard_loss.label_smoothing: is 0.2, but topology 'ctc'"):
        ctc = Inventory.from_lexicon(lexicon, "ctc")
        FrameObjective(lexicon, ctc, {}, SoftLossConfig(), HardLossConfig(label_smoothing=0.2))
    with pytest.raises(ConfigError, match="^hard_loss.label_smoothing: must be at least 0 and at most 1, not 2"):
        FrameObjective(lexicon, inventory, {}, SoftLossConfig(), HardLossConfig(label_smoothing=2))
