"""Two views of a batch, each the other's target, against plain loops in double precision."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training_helpers import settings

from asrkd import checkpoint
from asrkd.corpus.augment import AugmentConfig
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import ConfigError
from asrkd.streaming.batch import Batch, Utterance, collate
from asrkd.targets.codecs import Dense
from asrkd.targets.packed import as_stored
from asrkd.targets.streams import POSTERIORS
from asrkd.training.consistency import ConsistencyConfig, ConsistencyObjective
from asrkd.training.metrics import read_metrics
from asrkd.training.objective import FrameObjective, SoftLossConfig
from asrkd.training.student import Learner
from asrkd.training.trainer import Trainer

# What each word is in classes; 0 is blank.
WORDS = {"AB": [1, 2], "AA": [1, 1], "C": [3]}
LEXICON = Lexicon.from_pairs([("AB", ["a", "b"]), ("AA", ["a", "a"]), ("C", ["c"])])
CLASSES = 4


class Scores(nn.Module):
    """A model whose logits are its features, each class times a weight."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return features.to(self.weights.dtype) * self.weights, lengths


def plain_ctc(log_probs: Tensor, tokens: list[int]) -> Tensor:
    """-log P(tokens): the sum over every path that is these tokens; 0 where there is none."""
    total = torch.zeros((), dtype=torch.float64)
    for path in itertools.product(range(CLASSES), repeat=len(log_probs)):
        if [unit for unit, _ in itertools.groupby(path) if unit] == tokens:
            total = total + math.prod(log_probs[t, unit].exp() for t, unit in enumerate(path))
    return -total.log() if float(total.detach()) else total


def plain_loss(weights: Tensor, batch: Batch, kind: str, scale: float, targets: Tensor) -> tuple[Tensor, float]:
    """The loss of a batch, and the divergence alone, both per frame."""
    loss = divergence = torch.zeros((), dtype=torch.float64)
    frames = 0
    assert batch.second_view is not None
    for number, length in enumerate(batch.feature_lengths.tolist()):
        one, two = (
            (view[number, :length].double() * weights).log_softmax(1) for view in (batch.features, batch.second_view)
        )
        for t in range(length):
            for v in range(CLASSES):
                for here, there in ((one[t, v], two[t, v].item()), (two[t, v], one[t, v].item())):
                    divergence = divergence + math.exp(there) * (there - here) / 2
                    if kind == "soft":
                        loss = loss - float(targets[frames + t, v]) * here / 2
        if kind == "labeled":
            for view in (one, two):
                loss = loss + plain_ctc(view, WORDS[str(batch.texts[number])]) / 2
        frames += length
    return (loss + scale * divergence) / frames, float(divergence.detach()) / frames


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from(sorted(WORDS))), min_size=1, max_size=3),
    st.sampled_from(["labeled", "soft"]),
    st.floats(0.05, 2.0),
    st.integers(0, 40),
    st.integers(0, 30),
    st.integers(0, 2**31),
)
def test_loss_and_gradient_are_those_of_a_plain_loop(
    shapes: list[tuple[int, str]], kind: str, scale: float, warmup: int, step: int, seed: int
) -> None:
    torch.manual_seed(seed)
    posteriors = [(torch.randn(length, CLASSES) * 2).log_softmax(1) for length, _ in shapes]
    utterances = [
        Utterance(
            f"u{number}",
            kind,
            torch.randn(length, CLASSES),
            length,
            1.0,
            streams={POSTERIORS: as_stored(Dense(), log_probs)},
            text=text,
            second_view=torch.randn(length, CLASSES),
        )
        for number, ((length, text), log_probs) in enumerate(zip(shapes, posteriors, strict=True))
    ]
    batch = collate(utterances, step=step)
    assert batch.targets is not None
    stored = batch.targets.to_dense().double().exp()
    weights = torch.rand(CLASSES, dtype=torch.float64) + 0.5
    inventory = Inventory.from_lexicon(LEXICON, "ctc")
    frame = FrameObjective(LEXICON, inventory, {kind: kind}, SoftLossConfig())
    objective = ConsistencyObjective(frame, ConsistencyConfig(scale=scale, warmup_steps=warmup))
    model = Scores(weights.clone())
    loss, figures = Learner([model])(batch, objective)
    loss.backward()
    reference = weights.clone().requires_grad_()
    rising = min((step + 1) / warmup, 1.0) if warmup else 1.0
    expected, divergence = plain_loss(reference, batch, kind, scale * rising, stored / stored.sum(1, keepdim=True))
    expected.backward()
    torch.testing.assert_close(loss.detach(), expected.detach(), rtol=1e-6, atol=1e-8, check_dtype=False)
    torch.testing.assert_close(model.weights.grad, reference.grad, rtol=1e-5, atol=1e-7)
    assert figures[f"{kind}_consistency"] == pytest.approx(divergence, rel=1e-5, abs=1e-8)
    assert figures[kind] == pytest.approx(float(loss.detach()) - scale * rising * divergence, rel=1e-5, abs=1e-7)


def test_views_that_are_alike_cost_nothing_more() -> None:
    features = torch.randn(4, CLASSES)
    one = Utterance("u", "labeled", features, 4, 1.0, text="C", second_view=features.clone())
    frame = FrameObjective(LEXICON, Inventory.from_lexicon(LEXICON, "ctc"), {"labeled": "labeled"}, SoftLossConfig())
    learner = Learner([Scores(torch.ones(CLASSES))])
    alone, figures = learner(collate([one]), frame)
    both, doubled = learner(collate([one]), ConsistencyObjective(frame, ConsistencyConfig(scale=5.0)))
    torch.testing.assert_close(both, alone)
    assert doubled == {**figures, "labeled_consistency": 0.0}


def test_more_time_masks_while_it_is_on() -> None:
    augment = AugmentConfig(time_masks=2, time_mask_frames=6, frequency_masks=1)
    assert ConsistencyConfig().masked(augment) == augment
    for masks, ratio, expected in ((2, 2.5, 5), (1, 2.5, 3), (0, 2.5, 0), (10, 2.5, 25), (3, 1.0, 3)):
        config = ConsistencyConfig(scale=0.2, time_mask_ratio=ratio)
        assert config.masked(AugmentConfig(time_masks=masks, frequency_masks=1)).time_masks == expected


def consistent(corpus: Path, run: Path, **changes: Any) -> Any:
    given = {"consistency": {"scale": 0.2, "warmup_steps": 4}, "augment": {"time_masks": 2, "frequency_masks": 1}}
    return settings(
        corpus, run, **{"schedule": [{"steps": 8, "mixture": {"labeled": 1}}], "log_steps": 1} | given | changes
    )


@pytest.mark.slow
def test_a_training_resumes_bit_for_bit_and_measures_the_divergence(corpus: Path, tmp_path: Path) -> None:
    for stops, name in (((8,), "whole"), ((3, 8), "parts")):
        for stop in stops:
            Trainer(consistent(corpus, tmp_path / name)).train(stop_at=stop)
    whole, parts = (checkpoint.read(tmp_path / name / "final.pt")["model"] for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    losses = [line for line in read_metrics(tmp_path / "whole") if "labeled" in line]
    assert all(line["labeled_consistency"] > 0 for line in losses)
    Trainer(consistent(corpus, tmp_path / "without", consistency={})).train()
    without = checkpoint.read(tmp_path / "without/final.pt")["model"]
    assert any(not torch.equal(value, without[name]) for name, value in whole.items())
    assert not any("labeled_consistency" in line for line in read_metrics(tmp_path / "without"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"augment": {"gain_db": 3.0}},
            r"^consistency.scale: is 0.2, but augment.time_masks and augment.frequency_masks are 0",
        ),
        (
            {"schedule": [{"steps": 2, "mixture": {"labeled": 1}, "criterion": "mmi"}]},
            "^consistency.scale: is 0.2, but the schedule has a sequence criterion",
        ),
        ({"consistency": {"scale": -1}}, "^consistency.scale: must be at least 0, not -1"),
        ({"consistency": {"scale": 0.2, "time_mask_ratio": 0}}, "^consistency.time_mask_ratio: must be above 0, not 0"),
    ],
)
def test_what_does_not_go_together(corpus: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainer(consistent(corpus, tmp_path / "run", **changes))


def test_a_batch_of_one_view_is_refused() -> None:
    frame = FrameObjective(LEXICON, Inventory.from_lexicon(LEXICON, "ctc"), {"labeled": "labeled"}, SoftLossConfig())
    batch = collate([Utterance("u", "labeled", torch.randn(4, CLASSES), 4, 1.0, text="C")])
    with pytest.raises(ConfigError, match="a batch of source 'labeled' has one view alone"):
        Learner([Scores(torch.ones(CLASSES))])(batch, ConsistencyObjective(frame, ConsistencyConfig(scale=0.2)))
