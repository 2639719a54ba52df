from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_helpers import needs_k2, run_settings

from asrkd import checkpoint
from asrkd.alignment.align_store import align_store
from asrkd.errors import ConfigError, DependencyError, MismatchError
from asrkd.labeling.job import run as label
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.snapshot import take
from asrkd.training.config import TrainConfig
from asrkd.training.metrics import read_metrics
from asrkd.training.trainer import Trainer


@pytest.fixture(scope="module")
def aligned(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("aligned") / "store"
    align_store(Store.open(str(corpus / "stores/labeled")), str(out), corpus / "lexicon.txt", states_per_phone=1)
    return out


@pytest.fixture(scope="module")
def started(corpus: Path, aligned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cross-entropy."""
    run = tmp_path_factory.mktemp("start") / "run"
    Trainer(run_settings(corpus, aligned, run)).train()
    return run


@pytest.fixture(scope="module")
def soft(corpus: Path, started: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The labeled set with soft targets, without alignments."""
    root = str(tmp_path_factory.mktemp("soft") / "store")
    plan(str(corpus / "unlabeled.jsonl.gz"), root, teacher=f"checkpoint:{started}", codec="hybrid:0:8", embed="audio")
    label(Local(Store.open(root)))
    return Path(root)


def phase(criterion: str, steps: int = 8) -> list[dict[str, Any]]:
    return [{"steps": steps, "mixture": {"labeled": 1}, "criterion": criterion, "learning_rate": 0.003}]


@needs_k2
@pytest.mark.parametrize("criterion", ["mmi", "lf_mmi", "smbr", "mwer"])
def test_a_sequence_phase_starts_from_a_run_and_lowers_its_criterion(
    corpus: Path, aligned: Path, started: Path, tmp_path: Path, criterion: str
) -> None:
    config = run_settings(
        corpus, aligned, tmp_path / "run", init=str(started / "final.pt"), schedule=phase(criterion, 24)
    )
    Trainer(config).train()
    lines = read_metrics(tmp_path / "run")
    values = [line[f"labeled_{criterion}"] for line in lines]
    assert len(values) == 24 and np.mean(values[-6:]) < np.mean(values[:6])
    assert all("labeled" in line and line["learning_rate"] == 0.003 for line in lines)
    # It is decoded with the priors that it was trained with.
    before, after = (checkpoint.read(run / "final.pt")["log_prior"] for run in (started, tmp_path / "run"))
    assert torch.equal(before, after)


@needs_k2
@pytest.mark.parametrize("criterion", ["smbr", "mwer"])
def test_a_sequence_phase_goes_on_bit_for_bit(
    corpus: Path, aligned: Path, started: Path, tmp_path: Path, criterion: str
) -> None:
    def config(name: str) -> TrainConfig:
        schedule = [{"steps": 3, "mixture": {"labeled": 1}}, *phase(criterion, 6)]
        return run_settings(corpus, aligned, tmp_path / name, init=str(started / "final.pt"), schedule=schedule)

    Trainer(config("whole")).train()
    for stop in (2, 5, 9):
        Trainer(config("parts")).train(stop_at=stop)
    one, other = (checkpoint.read(tmp_path / name / "final.pt")["model"] for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@needs_k2
def test_priors_may_come_from_a_store_and_smoothing_from_soft_targets(
    corpus: Path, aligned: Path, started: Path, soft: Path, tmp_path: Path
) -> None:
    from asrkd.store.prior import mean_posterior

    config = run_settings(
        corpus, aligned, tmp_path / "run", init=str(started / "final.pt"), prior=str(soft), schedule=phase("lf_mmi", 2)
    )
    Trainer(config).train()
    found = checkpoint.read(tmp_path / "run" / "final.pt")["log_prior"]
    torch.testing.assert_close(
        found.double().exp(), torch.from_numpy(mean_posterior(Store.open(str(soft)))), rtol=1e-4, atol=1e-5
    )
    smoothed = run_settings(
        corpus,
        aligned,
        tmp_path / "other",
        init=str(started / "final.pt"),
        schedule=phase("lf_mmi", 2),
        sequence={"smooth_with": "soft"},
    )
    with pytest.raises(MismatchError, match="utterances without soft targets"):
        Trainer(smoothed).train()


@needs_k2
def test_utterances_without_a_path_are_skipped_counted_and_listed(
    corpus: Path, aligned: Path, started: Path, tmp_path: Path
) -> None:
    config = run_settings(
        corpus,
        aligned,
        tmp_path / "run",
        init=str(started / "final.pt"),
        schedule=phase("smbr", 2),
        sequence={"search_beam": 1e-3, "output_beam": 1e-3, "min_active": 0, "max_active": 1, "acoustic_scale": 50.0},
    )
    Trainer(config).train(stop_at=1)
    first = (tmp_path / "run" / "skipped.tsv").read_text().splitlines()
    Trainer(config).train()
    assert set(first) <= set((tmp_path / "run" / "skipped.tsv").read_text().splitlines())
    assert sum(line.get("labeled_skipped", 0) for line in read_metrics(tmp_path / "run")) > 0
    listed = (tmp_path / "run" / "skipped.tsv").read_text().splitlines()
    assert listed and all("lattice is empty: widen the beam" in line for line in listed)


@needs_k2
def test_what_cannot_be_trained_is_refused(
    corpus: Path, aligned: Path, started: Path, soft: Path, tmp_path: Path
) -> None:
    def refused(kind: type[Exception], match: str, **changes: Any) -> None:
        given = {"schedule": phase("mmi"), "init": str(started / "final.pt")} | changes
        with pytest.raises(kind, match=match):
            Trainer(run_settings(corpus, aligned, tmp_path / "run", **given))

    refused(ConfigError, r"^schedule\[0\].criterion: must be one of frame, mmi.*'mbr'", schedule=phase("mbr"))
    refused(ConfigError, "needs the priors of the classes", init=None)
    refused(ConfigError, "^sequence.smoothing: .*1.0", sequence={"smoothing": 1.0})
    refused(ConfigError, "^sequence.acoustic_scale: .*0.0", sequence={"acoustic_scale": 0.0})
    refused(ConfigError, "^sequence.smooth_with: .*'both'", sequence={"smooth_with": "both"})
    refused(ConfigError, r"^schedule\[0\].learning_rate: .*0.0", schedule=[phase("mmi")[0] | {"learning_rate": 0.0}])
    ctc = {"lexicon": str(corpus / "lexicon.txt"), "topology": "ctc"}
    refused(ConfigError, "'ctc' model has no use for priors", inventory=ctc, init=None, prior=str(soft))
    refused(ConfigError, "^sequence.search_beam: must be above 0", sequence={"search_beam": 0.0})


def test_the_phone_ngram_counts_the_utterances_that_are_trained_on(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that filters and a snapshot leave of the sources that `lf_mmi` draws from; k2 has no part in it."""
    counted: list[list[list[int]]] = []
    monkeypatch.setattr("asrkd.training.sequence.topology_of", lambda inventory: None)
    monkeypatch.setattr("asrkd.training.sequence.phone_ngram", lambda sequences, order: counted.append(sequences))
    monkeypatch.setattr("asrkd.training.sequence.denominator", lambda topology, lm: torch.zeros(1))
    store = Store.open(str(corpus / "stores/labeled"))
    growing = Path(shutil.copytree(store.root, tmp_path / "growing"))
    late = sorted((growing / "shards").iterdir())[1:]
    for shard in late:
        shard.rename(tmp_path / shard.name)
    take(Store.open(str(growing)), "pinned")
    for shard in late:
        (tmp_path / shard.name).rename(shard)
    middle = float(np.median([row["duration"] for row in store.rows(["duration"])]))
    sources = {
        "filtered": {
            "store": store.root,
            "speakers": ["speaker-0", "speaker-2"],
            "bounds": {"duration": [None, middle]},
        },
        "pinned": {"store": str(tmp_path / "growing"), "snapshot": "pinned"},
        "other": {"store": store.root},
    }
    schedule = [
        {"steps": 2, "mixture": {"other": 1}},
        phase("lf_mmi")[0] | {"mixture": {"filtered": 1}, "until": {"pinned": 1}},
    ]
    config = run_settings(corpus, growing, tmp_path / "run", "ctc", sources=sources, schedule=schedule)
    units = Trainer(config).inventory.units
    phones = {"low": ["l"], "high": ["h"], "up": ["l", "h"]}
    rows = list(store.rows(["text", "speaker", "duration"]))
    left = [row["text"] for row in rows if row["speaker"] != "speaker-1" and row["duration"] <= middle]
    first = store.column(store.units()[0], "text").to_pylist()
    assert 0 < len(left) < len(rows) and 0 < len(first) < len(rows)
    assert counted == [
        [[units.index(phone) for word in text.split() for phone in phones[word]] for text in [*left, *first]]
    ]


@pytest.mark.slow
def test_without_k2_a_sequence_phase_says_how_to_install_it(
    corpus: Path, aligned: Path, started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "k2", None)
    config = run_settings(corpus, aligned, tmp_path / "run", init=str(started / "final.pt"), schedule=phase("smbr"))
    with pytest.raises(DependencyError, match="pip install k2 -f https://k2-fsa.github.io"):
        Trainer(config)
