from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lhotse import CutSet

from asrkd import text
from asrkd.acoustic import AcousticModel
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.errors import CorpusError, ModelError

PRIOR = torch.tensor([0.5, 0.2, 0.3]).log()


def model(log_prior: torch.Tensor | None = PRIOR) -> AcousticModel:
    inventory = Inventory(("SIL", "a_0", "b_0"), "hmm")
    return AcousticModel(lambda f, n: (f[..., :3], n), FrontEnd(), inventory, 1, "mine", "f", log_prior=log_prior)


@pytest.mark.parametrize("batch", [1, 5, 100])
def test_scores_are_those_of_each_cut(corpus: Path, batch: int) -> None:
    path = corpus / "labeled.jsonl.gz"
    dev = EvaluationSet.read(str(path))
    scores = AcousticScores(model(), dev, acoustic_scale=0.4, prior_scale=0.7, batch=batch)
    cuts = list(CutSet.from_file(path))
    found = list(scores)
    assert [key for key, _ in found] == [cut.id for cut in cuts] == list(dev.references)
    for cut, (_, one) in zip(cuts, found, strict=True):
        features = FrontEnd()(torch.from_numpy(cut.load_audio()[0]))
        expected = 0.4 * (features[:, :3].log_softmax(-1) - 0.7 * PRIOR)
        np.testing.assert_allclose(one, expected, atol=1e-4)
        assert dev.references[cut.id] == cut.supervisions[0].text
        assert dev.speakers[cut.id] == cut.supervisions[0].speaker
    assert scores.audio_seconds == pytest.approx(sum(cut.duration for cut in cuts)) and scores.model_seconds > 0


def test_a_manifest_is_read_once_and_audio_batch_by_batch(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[Path] = []
    stream = text.stream

    def counted(path, **options):  # type: ignore[no-untyped-def]
        for line in stream(path, **options):
            lines.append(path)
            yield line

    monkeypatch.setattr(text, "stream", counted)
    scores = AcousticScores(model(), EvaluationSet.read(str(corpus / "labeled.jsonl.gz")), batch=2)
    seconds = []
    for _ in scores:
        seconds.append(scores.audio_seconds)
    # Besides each line once, the first one tells the form, to the two that may be kept so.
    assert lines == [corpus / "labeled.jsonl.gz"] * (len(seconds) + 2)
    assert len(set(seconds)) == len(seconds) / 2 == 12


def test_a_model_without_priors_is_refused_before_audio_is_read(corpus: Path) -> None:
    dev = EvaluationSet.read(str(corpus / "labeled.jsonl.gz"))
    with pytest.raises(ModelError, match="brings none; give a run of asrkd train .checkpoint:RUN., or add log_prior"):
        AcousticScores(model(None), dev)


def test_audio_that_is_missing_is_named(corpus: Path, tmp_path: Path) -> None:
    cuts = [cut.to_dict() for cut in CutSet.from_file(corpus / "labeled.jsonl.gz")][:2]
    cuts[1]["recording"]["sources"][0]["source"] = str(tmp_path / "none.flac")
    (tmp_path / "cuts.jsonl").write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    with pytest.raises(CorpusError, match="none.flac"):
        list(AcousticScores(model(), EvaluationSet.read(str(tmp_path / "cuts.jsonl"))))
