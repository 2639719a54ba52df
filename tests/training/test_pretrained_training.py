"""Trainings that begin with a pretrained encoder: against a plain loop, stopped and resumed, and as teachers."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretrained_helpers import pretrained_settings, save_encoder, stored
from rank_helpers import on_ranks
from torch import Tensor
from training_helpers import settings

from asrkd import checkpoint
from asrkd.acoustic import TrainedModel, load_model
from asrkd.alignment.align_store import align_store
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.errors import ConfigError, CorpusError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.training.schedule import learning_rate, stream_schedule
from asrkd.training.trainer import Trainer

FAMILIES = ("whisper", "wav2vec2")
# Nothing random inside, so that a loop written out draws the same.
STILL = {
    "whisper": {"dropout": 0.0},
    "wav2vec2": {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0, "apply_spec_augment": False},
}  # fmt: skip


def weights(run: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = checkpoint.read(run / "last.pt")["model"]
    return found


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_depth_rates_and_freezing_are_those_of_a_plain_loop(corpus: Path, tmp_path: Path, family: str) -> None:
    encoder = save_encoder(tmp_path / "encoder", family)
    # SGD, for AdamW makes much of the rounding of small gradients.
    schedule = {
        "name": "sgd",
        "momentum": 0.0,
        "encoder_scale": 0.5,
        "layer_decay": 0.8,
        "freeze_steps": 2,
        "clip_norm": float("inf"),
        "ema_decay": 0.0,
    }
    config = pretrained_settings(
        corpus, tmp_path / "run", family, encoder, args={"settings": STILL[family]}, optimizer=schedule, augment={}
    )
    plain = Trainer(config)
    model, steps = plain.model, plain.loader.steps(stream_schedule(config.schedule))
    model.train()

    def depth(name: str) -> int | None:
        """Layers above it, of three; None for what is never trained or not of the encoder."""
        if name.startswith("output."):
            return None
        for number in range(3):
            if f"layers.{number}." in name:
                return 2 - number
        return 0 if family == "whisper" and "encoder.layer_norm" in name else 3

    optimizers = {}
    for name, parameter in model.named_parameters():
        never = "feature_extractor." in name or "masked_spec_embed" in name or "embed_positions" in name
        if not never:
            above = depth(name)
            scale = 1.0 if above is None else 0.5 * 0.8**above
            optimizers[name] = (torch.optim.SGD([parameter], weight_decay=config.optimizer.weight_decay), scale)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(plain.total_steps):
        rate = learning_rate(step, plain.total_steps, config.optimizer, config.schedule)
        (batch,) = next(steps)
        model.zero_grad()
        loss, _ = plain.learner(batch, plain.objectives.of("frame", batch))
        loss.backward()
        for name, (optimizer, scale) in optimizers.items():
            if name.startswith("output.") or step >= 2:
                optimizer.param_groups[0]["lr"] = rate * scale
                optimizer.step()
        if step == 1:
            held = model.state_dict()
            assert all(torch.equal(held[name], before[name]) for name in held if not name.startswith("output."))
    plain.loader.close()
    expected = {f"students.0.{name}": value for name, value in model.state_dict().items()}

    Trainer(config).train()
    found = weights(tmp_path / "run")
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
    moved = [name for name in before if not torch.equal(before[name], found[f"students.0.{name}"])]
    assert {name.partition(".")[0] for name in moved} == {"encoder", "output"}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_that_was_stopped_resumes_exactly(corpus: Path, tmp_path: Path, family: str) -> None:
    encoder = save_encoder(tmp_path / "encoder", family)
    random = {"whisper": {"dropout": 0.2}, "wav2vec2": {"mask_time_prob": 0.3, "mask_time_length": 2}}[family]
    args = {"settings": random, "dropout": 0.1}
    for name, stops in (("whole", (6,)), ("parts", (1, 2, 5, 6))):
        for stop in stops:
            config = pretrained_settings(
                corpus, tmp_path / name, family, encoder, args=args, optimizer={"freeze_steps": 2, "layer_decay": 0.9}
            )
            np.random.seed(stop)  # whatever a process begins with
            Trainer(config).train(stop_at=stop)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    one, other = (TrainedModel.read(tmp_path / name) for name in ("whole", "parts"))
    assert_same(dict(one.weights), dict(other.weights))


def test_a_state_from_before_there_were_scales_resumes(corpus: Path, tmp_path: Path) -> None:
    for name, stops in (("whole", (6,)), ("parts", (3, 6))):
        for stop in stops:
            trainer = Trainer(settings(corpus, tmp_path / name, schedule=[{"steps": 6, "mixture": {"labeled": 1}}]))
            trainer.train(stop_at=stop)
            path = tmp_path / name / "last.pt"
            state = checkpoint.read(path)
            assert [group.pop("scale") for group in state["optimizer"]["param_groups"]] == [1.0]
            checkpoint.save(path, state)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def frozen_first(rank: int, world_size: int, corpus: Path, run: Path, encoder: Path) -> dict[str, Tensor]:
    plain = {"batch": {"max_frames": 600, "max_utterances": 3, "streams": 2}, "augment": {}}
    args, optimizer = {"settings": STILL["whisper"]}, {"freeze_steps": 2, "encoder_scale": 0.5}
    trainer = Trainer(pretrained_settings(corpus, run, "whisper", encoder, args=args, optimizer=optimizer, **plain))
    trainer.train(stop_at=4)
    return dict(trainer.model.state_dict())


@pytest.mark.slow
def test_two_processes_freeze_as_one_does(corpus: Path, tmp_path: Path) -> None:
    encoder = save_encoder(tmp_path / "encoder", "whisper")
    alone = frozen_first(0, 1, corpus, tmp_path / "alone", encoder)
    for both in on_ranks(2, frozen_first, corpus, tmp_path / "both", encoder):
        for name, value in both.items():
            torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_checkpoint_is_a_teacher_like_any_other(corpus: Path, tmp_path: Path, family: str) -> None:
    encoder = save_encoder(tmp_path / "encoder", family)
    given = {"args": {"layers": 2}, "dev_decoding": {"every": 1}}
    trainer = Trainer(pretrained_settings(corpus, tmp_path / "run", family, encoder, **given))
    figures = trainer.train()
    assert figures["dev_wer"] >= 0
    shutil.rmtree(encoder)  # the checkpoint needs it no more

    teacher = load_model(f"checkpoint:{tmp_path / 'run'}")
    assert teacher.tokenizer is not None
    plan(str(corpus / "unlabeled.jsonl.gz"), str(tmp_path / "store"), teacher=teacher.spec, codec="dense", unit_hours=1)
    run(Local(Store.open(str(tmp_path / "store"))))
    store = Store.open(str(tmp_path / "store"))
    cuts = {cut["id"]: to_cut(cut) for cut in store.cuts(0)}
    columns = ["id", "num_samples", "num_frames", *store.target_columns]
    rows = store.read_row_group(0, 0, columns).to_pylist()
    assert len(rows) == 20
    for row in rows:
        features = teacher.front_end(torch.from_numpy(read_audio(cuts[row["id"]], 16000)))
        expected, _ = teacher.log_probs(features[None], torch.tensor([len(features)]))
        row = {name: np.asarray(value) if isinstance(value, list) else value for name, value in row.items()}
        dense = torch.as_tensor(store.targets(row).to_dense())
        assert float((dense.exp() - expected[0].exp()).abs().max()) < 0.01
    scores = dict(AcousticScores(teacher, EvaluationSet.read(str(corpus / "labeled.jsonl.gz"))))
    assert len(scores) == 24


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_an_hmm_head_learns_from_alignments_at_its_own_frame_rate(corpus: Path, tmp_path: Path, family: str) -> None:
    out = str(tmp_path / "aligned")
    align_store(Store.open(str(stored(corpus, "labeled", family))), out, corpus / "lexicon.txt", max_unaligned=1.0)
    given = {
        "inventory": {"lexicon": str(corpus / "lexicon.txt"), "topology": "hmm"},
        "sources": {"labeled": {"store": out}},
        "dev": out,
    }
    trainer = Trainer(pretrained_settings(corpus, tmp_path / "run", family, save_encoder(tmp_path, family), **given))
    labels = {row["id"]: row["alignment"] for row in Store.open(out).rows(["id", "alignment"])}
    factor = trainer.config.model.subsampling_factor
    seen = 0
    for batch in trainer.loader.epoch("labeled"):
        assert batch.alignment is not None
        for key, row, frames in zip(batch.ids, batch.alignment, batch.num_frames.tolist(), strict=True):
            assert row[:frames].tolist() == list(labels[key])[::factor]
            seen += 1
    assert seen == len(labels) > 0
    trainer.train()
    assert load_model(str(tmp_path / "run")).log_prior is not None


@pytest.fixture
def short(corpus: Path, tmp_path: Path) -> tuple[Path, int]:
    """A Whisper encoder with positions for 0.8 s only, and how many utterances of the corpus are longer."""
    store = Store.open(str(stored(corpus, "labeled", "whisper")))
    seconds = [cut["duration"] for unit in range(store.num_units) for cut in store.cuts(unit)]
    too_long = sum(one > 0.8 for one in seconds)
    assert 0 < too_long < len(seconds)
    return save_encoder(tmp_path / "encoder", "whisper", max_source_positions=40), too_long


@pytest.mark.slow
def test_utterances_beyond_the_encoders_positions_are_left_out_and_counted(
    corpus: Path, tmp_path: Path, short: tuple[Path, int], caplog: pytest.LogCaptureFixture
) -> None:
    encoder, too_long = short
    with caplog.at_level(logging.WARNING):
        trainer = Trainer(pretrained_settings(corpus, tmp_path / "run", "whisper", encoder))
    assert trainer.max_seconds == 0.8
    trainer.train()
    for name in ("sources.labeled", "dev"):
        said = f"{name}: {too_long} of 24 utterances are longer than 0.8 s, which is the most that the model takes, and are left out"
        assert any(said in line for line in trainer.warnings)
        assert said in caplog.text

    teacher = load_model(str(tmp_path / "run"))
    assert teacher.max_seconds == 0.8
    store = plan(str(corpus / "labeled.jsonl.gz"), str(tmp_path / "store"), teacher=teacher.spec, unit_hours=1)
    assert store.plan["num_too_long"] == too_long
    assert run(Local(store), max_quarantined=1.0).num_bad == too_long
    for key, reason in dict(store.quarantine.of([0])).items():
        assert f"cut {key!r} is " in reason
        assert f"s long, but teacher {teacher.spec!r} takes 0.8 s at a time. Split it" in reason
    with pytest.raises(
        CorpusError, match=r"cut 'labeled-\d+' of .* s long, but model .* takes 0.8 s at a time; split it"
    ):
        dict(AcousticScores(teacher, EvaluationSet.read(str(corpus / "labeled.jsonl.gz"))))


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("wav2vec2", {"augment": {"time_masks": 1}}, "augment: time_masks, .* change frames of features, but the front end is kind: waveform"),
        ("wav2vec2", {"augment": {"frequency_warp": 0.1}}, "change frames of features"),
        ("wav2vec2", {"augment": {"time_warp": 3}}, "change frames of features"),
        ("wav2vec2", {"loader": {"features_on_device": True}}, "loader.features_on_device: is set, but the front end is kind: waveform"),
        ("whisper", {"optimizer": {"freeze_steps": 3}, "scale": {"gtc_threshold": 0.1}}, "optimizer.freeze_steps: is 3, but scale.gtc_threshold"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(
    corpus: Path, tmp_path: Path, family: str, changes: Any, message: str
) -> None:
    encoder = save_encoder(tmp_path / "encoder", family)
    with pytest.raises(ConfigError, match=message):
        Trainer(pretrained_settings(corpus, tmp_path / "run", family, encoder, **changes))


@pytest.mark.parametrize("optimizer", [{"encoder_scale": 0.5}, {"layer_decay": 0.5}, {"freeze_steps": 3}])
def test_rates_of_an_encoder_need_one(corpus: Path, tmp_path: Path, optimizer: dict[str, Any]) -> None:
    (key,) = optimizer
    with pytest.raises(ConfigError, match=f"^optimizer.{key}: is .*, but the model has no pretrained encoder"):
        Trainer(settings(corpus, tmp_path / "run", optimizer={"learning_rate": 0.01} | optimizer))
