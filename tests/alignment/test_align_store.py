from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from graph_helpers import needs_k2, run_settings, trained
from lhotse import CutSet

from asrkd import checkpoint
from asrkd.acoustic import load_model
from asrkd.alignment.align_store import align_store
from asrkd.alignment.calibration import calibration_of
from asrkd.alignment.forced import transcript_graph, viterbi
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.errors import ConfigError, CorpusError, DependencyError, MismatchError, ModelError
from asrkd.store import Store, manifest
from asrkd.store.files import Files
from asrkd.store.verify import verify
from asrkd.store.writer import write_shard
from asrkd.training.trainer import Trainer


@pytest.fixture(scope="module", params=["hmm", "ctc"])
def model(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The spec of a run."""
    return f"checkpoint:{trained(corpus, tmp_path_factory.mktemp(request.param), request.param)}"


def columns(root: Path, name: str) -> dict[str, np.ndarray]:
    return {row["id"]: np.array(row[name]) for row in Store.open(str(root)).rows()}


@needs_k2
def test_k2_aligns_as_viterbi_does(corpus: Path, model: str, tmp_path: Path) -> None:
    # One pronunciation a word, so that torchaudio's CTC aligner has the same choice.
    for aligner in ("viterbi", "k2"):
        align_store(
            Store.open(str(corpus / "stores/labeled")), str(tmp_path / aligner), corpus / "lexicon.txt",
            states_per_phone=1, model=model, aligner=aligner,
        )  # fmt: skip
    ours, theirs = columns(tmp_path / "k2", "alignment"), columns(tmp_path / "viterbi", "alignment")
    assert len(ours) == 24
    agree = np.concatenate([ours[key] == theirs[key] for key in ours])
    # Paths of equal scores in float32 may differ.
    assert agree.mean() > 0.995


@needs_k2
def test_soft_alignments_are_targets_that_agree_with_the_hard_ones(corpus: Path, model: str, tmp_path: Path) -> None:
    align_store(
        Store.open(str(corpus / "stores/labeled")), str(tmp_path / "soft"), corpus / "lexicon.txt",
        states_per_phone=1, model=model, aligner="k2", soft="dense",
    )  # fmt: skip
    assert not verify(str(tmp_path / "soft"))
    store = Store.open(str(tmp_path / "soft"))
    assert store.identity.posterior_codec.spec == "dense" and "given the transcripts" in store.identity.teacher
    right = []
    for row in store.rows():
        chances = np.exp(store.targets(row).to_dense())
        np.testing.assert_allclose(chances.sum(1), 1, atol=1e-4)
        right.append(chances[np.arange(row["num_frames"]), row["alignment"]])
        assert row["confidence"] == pytest.approx(chances.max(1).mean(), abs=1e-4)
    assert np.concatenate(right).mean() > 0.6
    with pytest.raises(ConfigError, match="has soft targets already"):
        align_store(
            Store.open(str(tmp_path / "soft")), str(tmp_path / "again"), corpus / "lexicon.txt",
            states_per_phone=1, model=model, soft="dense",
        )  # fmt: skip


def test_calibration_is_of_the_frames_of_the_transcripts(corpus: Path, model: str) -> None:
    loaded = load_model(model)
    dev = EvaluationSet.read(str(corpus / "labeled.jsonl.gz"))
    found = calibration_of(loaded, dev)
    frames = sum(len(scores) for _, scores in AcousticScores(loaded, dev))
    assert found.frames.sum() == frames and found.left_out == 0
    # It was trained on them, so it is right more often than by chance, and the ends of its bins hold its confidences.
    assert found.accuracy > 2 / len(loaded.inventory) and 0 <= found.error <= 1
    confidences, _ = found.curve()
    bins = np.flatnonzero(found.frames)
    assert (confidences >= bins / 10 - 1e-6).all() and (confidences <= (bins + 1) / 10 + 1e-6).all()
    with pytest.raises(CorpusError, match="none of the .* transcripts of .* has a path"):
        calibration_of(loaded, dataclasses.replace(dev, references=dict.fromkeys(dev.references, "")))


@needs_k2
def test_a_transcript_that_does_not_fit_is_named(corpus: Path, model: str, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("low" + 300 * " l" + "\nhigh h\nup l h\n")
    with pytest.raises(CorpusError, match="utterance 'labeled-.*frames are too few for its transcript"):
        align_store(
            Store.open(str(corpus / "stores/labeled")), str(tmp_path / "out"), tmp_path / "long.txt",
            states_per_phone=1, model=model, aligner="k2",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_an_ensemble_aligns_by_its_posteriors_and_priors(corpus: Path, tmp_path: Path) -> None:
    """`hmm`: the labels are those of the weighted posteriors of two runs, divided by their weighted priors, computed here from the audio."""
    first = trained(corpus, tmp_path, "hmm")
    Trainer(run_settings(corpus, tmp_path / "flat", tmp_path / "second", seed=7)).train()
    weights = {first: 0.7, tmp_path / "second": 0.3}
    members = [{"spec": f"checkpoint:{run}", "weight": weight} for run, weight in weights.items()]
    (tmp_path / "both.yaml").write_text(yaml.safe_dump({"teachers": members}))
    store, lexicon = Store.open(str(corpus / "stores/labeled")), Lexicon.read(corpus / "lexicon.txt")
    found = align_store(
        store,
        str(tmp_path / "out"),
        corpus / "lexicon.txt",
        states_per_phone=1,
        model=f"ensemble:{tmp_path / 'both.yaml'}",
    )
    assert found.count == 24 and not found.left_out.count
    labels = columns(tmp_path / "out", "alignment")
    models = [load_model(str(run)) for run in weights]
    inventory = models[0].inventory
    prior = sum(
        weight * np.exp(checkpoint.read(run / "final.pt")["log_prior"].numpy()) for run, weight in weights.items()
    )
    alone = []
    for cut in CutSet.from_file(corpus / "labeled.jsonl.gz"):
        features = models[0].front_end(torch.from_numpy(cut.load_audio()[0]))[None]
        with torch.no_grad():
            posteriors = [
                model.network(features, torch.tensor([features.shape[1]]))[0][0].softmax(-1) for model in models
            ]
        dense = sum(weight * one.numpy() for weight, one in zip(weights.values(), posteriors, strict=True)) / prior
        graph = transcript_graph(cut.supervisions[0].text, lexicon, inventory, what=cut.id)
        assert np.array_equal(labels[cut.id], graph.classes[viterbi(np.log(dense), graph)[0]])
        alone.append(np.array_equal(labels[cut.id], graph.classes[viterbi(np.log(posteriors[1].numpy()), graph)[0]]))
    assert not all(alone)  # the priors, or the other model, make a difference


def test_a_model_without_priors_is_refused_before_anything_is_read(corpus: Path, tmp_path: Path) -> None:
    run = trained(corpus, tmp_path, "hmm")
    content = checkpoint.read(run / "final.pt")
    checkpoint.save(tmp_path / "bare.pt", content | {"log_prior": None})
    given = (Store.open(str(corpus / "stores/labeled")), str(tmp_path / "out"), corpus / "lexicon.txt")
    with pytest.raises(ModelError, match="brings none; give a run of asrkd train"):
        align_store(*given, states_per_phone=1, model=f"checkpoint:{tmp_path / 'bare.pt'}")
    with pytest.raises(ConfigError, match="device 'cuda:99' cannot be used"):
        align_store(*given, states_per_phone=1, model=f"checkpoint:{run}", device="cuda:99")
    assert not (tmp_path / "out").exists()


def test_wrong_options_are_refused(corpus: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = (Store.open(str(corpus / "stores/labeled")), str(tmp_path / "out"), corpus / "lexicon.txt")
    with pytest.raises(ConfigError, match="aligner is 'hand'"):
        align_store(*given, model=model, aligner="hand")
    with pytest.raises(ConfigError, match="need the scores of a model"):
        align_store(*given, soft="dense")
    with pytest.raises(MismatchError, match="give the same lexicon and states_per_phone"):
        align_store(
            Store.open(str(corpus / "stores/labeled")), str(tmp_path / "out"), other_lexicon(tmp_path), model=model
        )
    monkeypatch.setitem(__import__("sys").modules, "k2", None)
    with pytest.raises(DependencyError, match="pip install k2"):
        align_store(*given, states_per_phone=1, model=model, aligner="k2")


def other_lexicon(folder: Path) -> Path:
    path = folder / "other.txt"
    path.write_text("low l o\nhigh h\nup l h\n")
    return path


@pytest.mark.parametrize("with_model", [False, True])
def test_a_transcript_that_does_not_fit_is_left_out_and_named(
    corpus: Path, model: str, tmp_path: Path, with_model: bool
) -> None:
    store = Store.open(str(corpus / "stores/labeled"))
    texts = {row["id"]: row["text"] for row in store.rows(["id", "text"])}
    rows = [row | {"text": 300 * "low " if row["id"] == "labeled-5" else row["text"]} for row in store.rows()]
    rows[7]["text"], rows[8]["text"] = None, "low unheard"
    write_shard(Files(str(tmp_path / "in")), 0, rows, store.identity)
    manifest.create(Files(str(tmp_path / "in")), store.identity, dict(store.plan) | {"num_units": 1})
    options = {"states_per_phone": 1, "model": model if with_model else None}
    given = (Store.open(str(tmp_path / "in")), str(tmp_path / "out"), corpus / "lexicon.txt")
    bad = ["labeled-5", rows[7]["id"], rows[8]["id"]]
    with pytest.raises(CorpusError, match=f"3 of 24 utterances.*{', '.join(map(repr, bad))}.*labeled-5': .*frames"):
        align_store(*given, **options, max_unaligned=0.1)
    assert not (tmp_path / "out").exists()
    found = align_store(*given, **options)
    assert found.count == 21 and list(found.left_out.reasons) == bad
    kept = columns(tmp_path / "out", "alignment")
    assert list(kept) == [key for key in texts if key not in bad]
    assert dict(Store.open(given[1]).quarantine.of([0])) == found.left_out.reasons and not verify(given[1])
    assert (
        "has no transcript" in found.left_out.reasons[bad[1]]
        and "'unheard' is not in the lexicon" in found.left_out.reasons[bad[2]]
    )
    # The others are aligned as they are without these three.
    if with_model:
        align_store(store, str(tmp_path / "whole"), given[2], **options)
        whole = columns(tmp_path / "whole", "alignment")
        assert all(np.array_equal(kept[key], whole[key]) for key in kept)
