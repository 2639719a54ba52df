from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import kill_at_random
from torch import Tensor, nn
from training_helpers import settings

from asrkd import checkpoint
from asrkd import config as configs
from asrkd.acoustic import load_model
from asrkd.alignment.align_store import align_store
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import AsrkdError, ConfigError, CorpusError, MismatchError, ModelError
from asrkd.labeling.job import run as label
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.models import rounded_weights
from asrkd.store import Store
from asrkd.streaming.source import Source
from asrkd.training.config import TrainConfig
from asrkd.training.metrics import read_metrics
from asrkd.training.trainer import Trainer


@pytest.fixture(scope="module")
def soft(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of soft targets by a small CTC teacher."""
    folder = tmp_path_factory.mktemp("soft")
    Trainer(settings(corpus, folder / "teacher")).train()
    plan(
        str(corpus / "unlabeled.jsonl.gz"),
        str(folder / "store"),
        teacher=f"checkpoint:{folder / 'teacher'}",
        embed="audio",
    )
    label(Local(Store.open(str(folder / "store"))))
    return folder / "store"


def mixture(corpus: Path, soft: Path) -> dict[str, Any]:
    return {
        "sources": {
            "labeled": {"store": str(corpus / "stores/labeled")},
            "soft": {"store": str(soft), "kind": "soft"},
        },
        "schedule": [{"steps": 10, "mixture": {"soft": 2, "labeled": 1}}, {"steps": 5, "mixture": {"labeled": 1}}],
    }


def weights(run: Path) -> dict[str, Tensor]:
    return torch.load(run / "final.pt", weights_only=True)["model"]


@pytest.mark.slow
def test_features_on_the_device_train_the_same_student(corpus: Path, soft: Path, tmp_path: Path) -> None:
    given = mixture(corpus, soft)
    Trainer(settings(corpus, tmp_path / "readers", **given)).train()
    # A run may change its mind when it continues.
    on_device = {"loader": {"features_on_device": True}}
    Trainer(settings(corpus, tmp_path / "device", **given, **on_device)).train(stop_at=6)
    Trainer(settings(corpus, tmp_path / "device", **given)).train(stop_at=10)
    Trainer(settings(corpus, tmp_path / "device", **given, **on_device)).train()
    expected = weights(tmp_path / "readers")
    for name, value in weights(tmp_path / "device").items():
        torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=0)


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.slow
def test_losses_fall_for_both_topologies(corpus: Path, tmp_path: Path) -> None:
    align_store(
        Store.open(str(corpus / "stores/labeled")),
        str(tmp_path / "aligned"),
        corpus / "lexicon.txt",
        states_per_phone=1,
    )
    hmm = settings(
        corpus,
        tmp_path / "hmm",
        inventory={"lexicon": str(corpus / "lexicon.txt"), "topology": "hmm", "states_per_phone": 1},
        sources={"labeled": {"store": str(tmp_path / "aligned")}},
        dev=str(tmp_path / "aligned"),
    )
    for config in (hmm, settings(corpus, tmp_path / "ctc")):
        trainer = Trainer(config)
        before = trainer.dev_loss()
        trainer.train()
        assert trainer.dev_loss() < 0.7 * before
        lines = read_metrics(Path(config.run))
        assert lines[-1]["step"] == 30 and lines[0]["labeled"] > lines[-2]["labeled"]


@pytest.mark.slow
def test_resuming_inside_a_mixture_is_exact(corpus: Path, soft: Path, tmp_path: Path) -> None:
    whole = settings(corpus, tmp_path / "whole", **mixture(corpus, soft))
    Trainer(whole).train()
    for stop in (1, 4, 7, 10, 12, 15):
        part = settings(corpus, tmp_path / "part", **mixture(corpus, soft))
        Trainer(part).train(stop_at=stop)
    assert_equal(weights(tmp_path / "part"), weights(tmp_path / "whole"))
    without_rate = [
        {k: v for k, v in line.items() if k in ("step", "dev")} for line in read_metrics(tmp_path / "whole")
    ]
    assert [line for line in without_rate if "dev" in line]


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_killed_training_ends_with_the_same_weights(
    corpus: Path, soft: Path, tmp_path: Path, asrkd_command: Any
) -> None:
    whole, killed = (settings(corpus, tmp_path / name, **mixture(corpus, soft)) for name in ("whole", "killed"))
    Trainer(whole).train()
    (tmp_path / "killed.yaml").write_text(configs.to_yaml(killed))
    command = asrkd_command("train", tmp_path / "killed.yaml")
    assert kill_at_random(command, kills=4, seed=1, watch=lambda: len(read_metrics(tmp_path / "killed"))) >= 1
    assert_equal(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_a_finished_run_does_nothing_and_another_config_is_refused(corpus: Path, tmp_path: Path) -> None:
    config = settings(corpus, tmp_path / "run", schedule=[{"steps": 2, "mixture": {"labeled": 1}}])
    Trainer(config).train()
    stamp = (tmp_path / "run/final.pt").stat().st_mtime_ns
    again = Trainer(config)
    assert again.done and again.train() == {} and (tmp_path / "run/final.pt").stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match="another config .*seed: 1.*seed: 5"):
        Trainer(settings(corpus, tmp_path / "run", schedule=[{"steps": 2, "mixture": {"labeled": 1}}], seed=5))


class OneShort(nn.Module):
    def __init__(self, input_dim: int, num_classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(input_dim, num_classes)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.output(features[:, 1:]), lengths - 1


def test_what_does_not_fit_is_refused(corpus: Path, soft: Path, tmp_path: Path) -> None:
    def trainer(**changes: Any) -> Trainer:
        return Trainer(settings(corpus, tmp_path / "run", **changes))

    both = mixture(corpus, soft)
    with pytest.raises(MismatchError, match="without soft targets"):
        trainer(sources={"labeled": {"store": str(corpus / "stores/labeled"), "kind": "soft"}})
    with pytest.raises(MismatchError, match="topology 'ctc'.*topology 'hmm'"):
        trainer(**both, inventory={"lexicon": str(corpus / "lexicon.txt"), "topology": "hmm"})
    with pytest.raises(MismatchError, match="frame law"):
        trainer(front_end=FrontEnd(stride=2).to_dict())
    with pytest.raises(
        ConfigError, match=r"^schedule\[0\].mixture.strong: there is no such source; choose from labeled"
    ):
        trainer(schedule=[{"steps": 2, "mixture": {"strong": 1}}])
    with pytest.raises(ConfigError, match="^schedule: must have at least one phase"):
        trainer(schedule=[])
    import sys

    sys.modules["one_short"] = sys.modules[__name__]
    with pytest.raises(MismatchError, match=r"\[12, 7\] frames"):
        trainer(model={"factory": "one_short:OneShort"})


@pytest.mark.slow
def test_workers_change_no_weight_of_an_update_over_several_streams(corpus: Path, soft: Path, tmp_path: Path) -> None:
    changes = mixture(corpus, soft)
    changes["schedule"][0]["until"] = {"labeled": 1}
    changes["batch"] = {"max_frames": 300, "max_utterances": 4, "streams": 3, "block_utterances": 16}
    Trainer(settings(corpus, tmp_path / "plain", **changes)).train()
    changes["loader"] = {"num_workers": 1, "prefetch": 2}
    for stop in (6, 15):
        Trainer(settings(corpus, tmp_path / "workers", **changes)).train(stop_at=stop)
    assert_equal(weights(tmp_path / "plain"), weights(tmp_path / "workers"))


def test_a_filtered_source_is_a_view_of_its_store(corpus: Path, soft: Path, tmp_path: Path) -> None:
    changes = mixture(corpus, soft)
    speakers = sorted({row["speaker"] for row in Source("soft", Store.open(str(soft))).store.rows(["speaker"])})
    changes["sources"]["soft"] |= {
        "speakers": speakers[:1],
        "bounds": {"confidence": [None, 1.0], "duration": [0.1, None]},
    }
    trainer = Trainer(settings(corpus, tmp_path / "run", **changes))
    drawn = {speaker for batch in trainer.loader.epoch("soft") for speaker in batch.speakers}
    assert drawn == {speakers[0]} and len(speakers) > 1
    changes["sources"]["soft"]["bounds"] = {"confidence": [0.5]}
    with pytest.raises(ConfigError, match=r"^sources.soft.bounds.confidence: must be a lowest and a highest.*\[0.5\]"):
        Trainer(settings(corpus, tmp_path / "other", **changes))


def test_a_vocabulary_map_lets_a_student_have_other_units(corpus: Path, soft: Path, tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("low v\nhigh v\nup v v\n")
    table = tmp_path / "map.tsv"
    table.write_text("<blk>\t<blk>\nl\tv\nh\tv\n")
    changes: dict[str, Any] = {"inventory": {"lexicon": str(tmp_path / "lexicon.txt"), "topology": "ctc"}}
    changes["schedule"] = [{"steps": 2, "mixture": {"soft": 1}}]
    source = {"store": str(soft), "kind": "soft"}
    with pytest.raises(MismatchError, match="targets over 3 units .*2 units .*set sources.soft.vocabulary_map"):
        Trainer(settings(corpus, tmp_path / "run", sources={"soft": source}, **changes))
    mapped = source | {"vocabulary_map": str(table)}
    trainer = Trainer(settings(corpus, tmp_path / "run", sources={"soft": mapped}, **changes))
    batch = next(trainer.loader.epoch("soft"))
    # The mass of both phones is that of the student's one.
    plain = Source("soft", Store.open(str(soft)))
    place = [plain.facts(n)["id"] for n in range(len(plain))].index(batch.ids[0])
    truth = np.exp(plain.store.targets(plain.facts(place)).to_dense())
    frames = batch.targets.row_splits.diff().tolist()[: len(truth)]
    found = batch.targets.log_probs[: sum(frames)].exp().reshape(-1, 2).numpy()
    np.testing.assert_allclose(found, np.stack([truth[:, 0], truth[:, 1:].sum(axis=1)], axis=1), atol=1e-5)
    assert trainer.train()["soft"] > 0
    table.write_text("<blk>\t<blk>\nl\tv\n")
    with pytest.raises(MismatchError, match="1 of the teacher's 3 units have no place"):
        Trainer(settings(corpus, tmp_path / "lossy", sources={"soft": mapped}, **changes))
    lossy = Trainer(settings(corpus, tmp_path / "lossy", sources={"soft": mapped | {"lossy_map": True}}, **changes))
    assert float(next(lossy.loader.epoch("soft")).targets.missing.max()) > 0


def test_a_frame_rate_map_lets_a_student_have_longer_frames(corpus: Path, soft: Path, tmp_path: Path) -> None:
    """A student that reads every second of the teacher's 30 ms frames; the plain store is the oracle."""
    changes: dict[str, Any] = {
        "front_end": {"mean_norm": "causal", "stride": 6},
        "schedule": [{"steps": 2, "mixture": {"soft": 1}}],
    }
    source = {"store": str(soft), "kind": "soft"}
    with pytest.raises(MismatchError, match=r"its targets would not fit .* set sources.soft.frame_rate_map"):
        Trainer(settings(corpus, tmp_path / "run", sources={"soft": source}, dev=None, **changes))
    mapped = source | {"frame_rate_map": "pool"}
    trainer = Trainer(settings(corpus, tmp_path / "run", sources={"soft": mapped}, dev=None, **changes))
    batch = next(trainer.loader.epoch("soft"))
    plain = Source("soft", Store.open(str(soft)))
    truth = {}
    for n in range(len(plain)):
        facts = plain.facts(n)
        dense = np.exp(plain.store.targets(facts).to_dense())
        pairs = [dense[2 * t : 2 * t + 2].mean(axis=0) for t in range((len(dense) + 1) // 2)]
        truth[facts["id"]] = np.stack(pairs)
    lengths = batch.num_frames.tolist()
    assert lengths == [len(truth[key]) for key in batch.ids]
    splits = batch.targets.row_splits
    found = np.zeros((len(splits) - 1, 3))
    rows = np.repeat(np.arange(len(found)), splits.diff().numpy())
    found[rows, batch.targets.ids.numpy()] = batch.targets.log_probs.exp().numpy()
    np.testing.assert_allclose(found, np.concatenate([truth[key] for key in batch.ids]), atol=1e-5)
    assert trainer.train()["soft"] > 0


def test_a_student_may_have_shorter_frames_than_its_teacher(corpus: Path, soft: Path, tmp_path: Path) -> None:
    """Two student frames of 15 ms, of one window each, for one of the teacher's."""
    changes: dict[str, Any] = {
        "front_end": {"mean_norm": "causal", "frame_shift_ms": 15, "frame_length_ms": 15, "stack": 1, "stride": 1},
        "schedule": [{"steps": 2, "mixture": {"soft": 1}}],
    }
    mapped = {"store": str(soft), "kind": "soft", "frame_rate_map": "peak"}
    trainer = Trainer(settings(corpus, tmp_path / "run", sources={"soft": mapped}, dev=None, **changes))
    batch = next(trainer.loader.epoch("soft"))
    assert batch.targets is not None and batch.targets.num_frames == int(batch.num_frames.sum())
    known = Source("soft", Store.open(str(soft)))
    slower = {facts["id"]: facts["num_frames"] for facts in map(known.facts, range(len(known)))}
    assert all(
        abs(2 * slower[key] - frames) <= 3 for key, frames in zip(batch.ids, batch.num_frames.tolist(), strict=True)
    )
    # Two in a row are the same one of the teacher's.
    dense = batch.targets.to_dense()
    assert int((dense[1:] == dense[:-1]).all(dim=1).sum()) >= sum(slower[key] for key in batch.ids) - 2 * len(batch)
    assert trainer.train()["soft"] > 0
    for rule, error, message in (
        ("pick", MismatchError, "^sources.soft.frame_rate_map: .*picks frames by their number"),
        ("mean", ConfigError, "^sources.soft.frame_rate_map: frame-rate map 'mean' is not known"),
    ):
        with pytest.raises(error, match=message):
            source = mapped | {"frame_rate_map": rule}
            Trainer(settings(corpus, tmp_path / "other", sources={"soft": source}, dev=None, **changes))
    hmm = {"lexicon": str(corpus / "lexicon.txt"), "topology": "hmm", "states_per_phone": 1}
    labeled = {"store": str(corpus / "stores/labeled"), "frame_rate_map": "peak"}
    with pytest.raises(
        ConfigError, match=r"^sources.labeled.frame_rate_map: is 'peak', but topology 'hmm' has no blank"
    ):
        Trainer(settings(corpus, tmp_path / "hmm", inventory=hmm, sources={"labeled": labeled}, dev=None))


def test_a_word_outside_the_lexicon_is_named(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("low l\nhigh h\n")
    config = settings(corpus, tmp_path / "run", inventory={"lexicon": str(tmp_path / "lexicon.txt")}, dev=None)
    with pytest.raises(CorpusError, match="word 'up' is not in the lexicon"):
        Trainer(config).train()


def test_a_loss_that_is_not_finite_stops_with_the_utterances(corpus: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(corpus, tmp_path / "run"))
    with torch.no_grad():
        trainer.model.output.bias.fill_(torch.nan)
    with pytest.raises(AsrkdError, match="Utterances: labeled-"):
        trainer.train()
    assert not (tmp_path / "run/final.pt").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_one_error_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        checkpoint.save(place / "last.pt", {"weights": torch.ones(1000)})
        with pytest.raises(AsrkdError, match="last.pt' cannot be written.*still whole"):
            checkpoint.save(place / "last.pt", {"weights": torch.ones(1_000_000)})
        assert torch.equal(checkpoint.read(place / "last.pt")["weights"], torch.ones(1000))
        assert [path.name for path in place.iterdir()] == ["last.pt"]
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_training_with_weights_of_eight_bits(corpus: Path, tmp_path: Path) -> None:
    """The finished student computes in int8 what its training measured, and is its own teacher's kind."""
    config = settings(corpus, tmp_path / "run")
    config.model.int8 = True
    trainer = Trainer(config)
    before = trainer.dev_loss()
    assert trainer.train()["dev"] < 0.8 * before
    used, exact = load_model(f"int8:{tmp_path / 'run'}"), load_model(f"checkpoint:{tmp_path / 'run'}")
    assert used.fingerprint != exact.fingerprint and exact.int8_trained
    features, lengths = torch.randn(1, 40, trainer.front_end.feature_dim), torch.tensor([40])
    with rounded_weights(exact.network):  # type: ignore[arg-type]
        rounded = exact.log_probs(features, lengths)[0]
    assert (used.log_probs(features, lengths)[0] - rounded).abs().max() < 0.1
    with pytest.raises(ModelError, match="runs on a CPU alone, not on 'meta'"):
        load_model(f"int8:{tmp_path / 'run'}", "meta")


@pytest.mark.slow
def test_chunks_first_and_whole_utterances_later(corpus: Path, tmp_path: Path) -> None:
    def config(name: str, chunk: int) -> TrainConfig:
        schedule = [
            {"steps": 6, "mixture": {"labeled": 1}, "chunk_frames": chunk},
            {"steps": 6, "mixture": {"labeled": 1}},
        ]
        return settings(corpus, tmp_path / name, schedule=schedule)

    for name, chunk in (("chunks", 7), ("whole", 0)):
        Trainer(config(name, chunk)).train()
    for stop in (3, 8, 12):
        Trainer(config("parts", 7)).train(stop_at=stop)
    assert_equal(weights(tmp_path / "parts"), weights(tmp_path / "chunks"))
    assert any(
        not torch.equal(one, weights(tmp_path / "whole")[name]) for name, one in weights(tmp_path / "chunks").items()
    )
    with pytest.raises(ConfigError, match=r"schedule\[0\].chunk_frames: must be at least 0, not -1"):
        Trainer(config("wrong", -1))
