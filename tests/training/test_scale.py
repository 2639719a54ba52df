"""A training on several processes against the same training on one, and what goes wrong with several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rank_helpers import on_ranks
from torch import nn
from training_helpers import settings

from asrkd import checkpoint
from asrkd.distributed.ranks import join
from asrkd.errors import ConfigError, MismatchError
from asrkd.training.metrics import read_metrics
from asrkd.training.trainer import Trainer

STEPS = 8
PLAIN: dict[str, Any] = {
    "schedule": [{"steps": STEPS, "mixture": {"labeled": 1}}],
    "batch": {"max_frames": 150, "max_utterances": 3, "streams": 4, "block_utterances": 8},
    "augment": {},
    "eval_steps": 4,
}


def trained(rank: int, world_size: int, corpus: Path, run: Path, stops: list[int], scale: dict[str, Any]) -> Any:
    """Train up to each stop with a new trainer; the weights of this process then, and what it said."""
    for stop in stops:
        trainer = Trainer(settings(corpus, run, scale=scale, **PLAIN))
        said = trainer.train(stop_at=stop)
    return {"weights": dict(trainer.model.state_dict()), "said": said}


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_two_processes_make_the_updates_of_one(corpus: Path, tmp_path: Path) -> None:
    """Also where their batches have different numbers of frames: an update is the mean over all frames."""
    alone = trained(0, 1, corpus, tmp_path / "alone", [STEPS], {})
    both = on_ranks(2, trained, corpus, tmp_path / "both", [STEPS], {})
    for one in both:
        assert_close(one["weights"], alone["weights"], 1e-4)
    lines = [read_metrics(tmp_path / name) for name in ("alone", "both")]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]] == [4, 5, 8, 8]
    for first, second in zip(*lines, strict=True):
        assert second == pytest.approx(first, rel=1e-3)  # the mean over both processes' batches
    assert checkpoint.read(tmp_path / "both/final.pt")["step"] == STEPS
    with pytest.raises(MismatchError, match="by a training of 2 processes, this one has 1"):
        Trainer(settings(corpus, tmp_path / "both", scale={}, **PLAIN))


@pytest.mark.slow
def test_two_tiers_go_on_bit_for_bit_where_they_were_stopped(corpus: Path, tmp_path: Path) -> None:
    scale = {"gtc_threshold": 0.002, "bmuf_block": 3, "bmuf_momentum": 0.5, "group_size": 2}
    whole = on_ranks(4, trained, corpus, tmp_path / "whole", [STEPS], scale)
    parts = on_ranks(4, trained, corpus, tmp_path / "parts", [2, 3, 7, STEPS], scale)
    for one, other in zip(whole, parts, strict=True):
        assert_close(one["weights"], other["weights"])
        # After the last block all start from one model.
        assert_close(one["weights"], whole[0]["weights"])
    assert_close(*(checkpoint.read(tmp_path / name / "final.pt")["model"] for name in ("whole", "parts")))
    assert 0 < whole[0]["said"]["sent_share"]
    residuals = [one["parallel"]["residuals"] for one in checkpoint.read(tmp_path / "whole/last.pt")["ranks"]]
    assert any(residual.abs().max() > 0 for residual in residuals[0].values())
    assert any(not torch.equal(residuals[0][name], residuals[1][name]) for name in residuals[0])


@pytest.mark.slow
def test_blocks_of_two_updates_send_half_of_what_ddp_does(corpus: Path, tmp_path: Path) -> None:
    found = on_ranks(2, trained, corpus, tmp_path / "run", [STEPS], {"bmuf_block": 2})
    assert found[0]["said"]["sent_share"] == pytest.approx(0.5, abs=1e-6)
    assert checkpoint.read(tmp_path / "run/final.pt")["sent_share"] == found[0]["said"]["sent_share"]


@pytest.mark.slow
def test_one_process_with_blocks_and_no_momentum_is_plain_training(corpus: Path, tmp_path: Path) -> None:
    plain = trained(0, 1, corpus, tmp_path / "plain", [STEPS], {})
    blocks = trained(0, 1, corpus, tmp_path / "blocks", [5, STEPS], {"bmuf_block": 2})
    # The factors of batches are the same shares, computed from other numbers.
    assert_close(plain["weights"], blocks["weights"], 1e-6)


class FrameNet(nn.Module):
    """Two linear layers, which every CPU runs in bfloat16."""

    def __init__(self, input_dim: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(input_dim, 32), nn.ReLU(), nn.Linear(32, num_classes))

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layers(features), lengths


class FailsInHalf(FrameNet):
    """As an LSTM does on a CPU without instructions for it."""

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError(f"{'a long way ' * 20}down: could not create a primitive")
        return super().forward(features, lengths)


@pytest.mark.slow
def test_half_precision_trains(corpus: Path, tmp_path: Path) -> None:
    losses = {}
    for precision in ("float32", "bf16", "fp16"):
        config = settings(
            corpus,
            tmp_path / precision,
            scale={"precision": precision},
            eval_steps=30,
            model={"factory": f"{__name__}:FrameNet"},
        )
        before = Trainer(config).dev_loss()
        losses[precision] = Trainer(config).train()["dev"]
        assert losses[precision] < 0.9 * before
        assert losses[precision] == pytest.approx(losses["float32"], rel=0.2)
    assert len(set(losses.values())) == 3


def test_a_precision_that_the_model_cannot_run_in_is_told(corpus: Path, tmp_path: Path) -> None:
    model = {"factory": f"{__name__}:FailsInHalf"}
    with pytest.raises(
        ConfigError, match="cannot run in bf16 on cpu .a long way .*down: could not create a primitive.*float32"
    ):
        Trainer(settings(corpus, tmp_path / "run", scale={"precision": "bf16"}, model=model)).train()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ({"precision": "int4"}, "^scale.precision: must be one of float32, bf16, fp16, not 'int4'"),
        ({"gtc_threshold": -1.0}, "^scale.gtc_threshold. must be at least 0, not -1.0"),
        ({"gtc_threshold": 0.1, "precision": "fp16"}, "scaled gradients would be compared with the threshold"),
        ({"bmuf_block": 2, "group_size": 2}, "^scale.group_size: is 2, but must divide the 1 processes"),
        ({"bmuf_block": 2, "bmuf_momentum": 1.0}, "^scale.bmuf_momentum. .*1.0"),
    ],
)
def test_settings_that_cannot_be(corpus: Path, tmp_path: Path, scale: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainer(settings(corpus, tmp_path / "run", scale=scale, **PLAIN))


def test_an_environment_of_torchrun_that_is_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="WORLD_SIZE is set, but RANK is not a number"):
        join("cpu")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="'cuda:0', which 2 processes would share"):
        join("cuda:0")
