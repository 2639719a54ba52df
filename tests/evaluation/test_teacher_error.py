"""A teacher's error with each decoder is what the decoder and a plain edit distance say; a teacher that is not better is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from edit_distance import levenshtein
from helpers import make_cuts
from text_helpers import PYTHON

from asrkd.acoustic import AcousticModel
from asrkd.cli import cli
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.decoding.search import Search
from asrkd.errors import AsrkdError, ConfigError, CorpusError
from asrkd.evaluation.teacher_error import ErrorRates, errors_of, not_better
from asrkd.text_teachers import TextTeacher, Transcription, WrittenText

LETTERS = ("<blk>", "\u2581", *"lowhigup")
SPELLED = Lexicon.from_pairs([(word, [*word, "\u2581"]) for word in ("low", "high", "up")])


def model(units: Sequence[str] = LETTERS, topology: str = "ctc", **given: Any) -> AcousticModel:
    """Of random scores, the same for the same features."""
    front_end, generator = FrontEnd(), torch.Generator().manual_seed(0)
    weights = torch.randn(front_end.feature_dim, len(units), generator=generator)
    inventory = Inventory(tuple(units), topology)
    return AcousticModel(
        lambda frames, lengths: (frames @ weights, lengths), front_end, inventory, 1, "mine", "f", **given
    )


def share(texts: dict[str, str], dev: EvaluationSet, split: Any) -> float:
    wrong = sum(levenshtein(split(said.lower()), split(texts[key].lower())) for key, said in dev.references.items())
    return wrong / sum(len(split(said)) for said in dev.references.values())


@pytest.fixture
def dev(corpus: Path) -> EvaluationSet:
    whole = EvaluationSet.read(str(corpus / "labeled.jsonl.gz"))
    return EvaluationSet(whole.name, whole.cuts[:4], dict(list(whole.references.items())[:4]), whole.speakers)


def test_errors_are_those_of_each_decoder_by_itself(dev: EvaluationSet) -> None:
    pytest.importorskip("flashlight.lib.text")
    mine = model()
    found = {one.decoder: one for one in errors_of(mine, dev, tokenizer=SPELLED)}
    assert set(found) == {"greedy", "beam", "graph"}
    for decoder, one in found.items():
        search = Search(None if decoder == "greedy" else SPELLED, mine, decoder=decoder)
        texts = search.texts(AcousticScores(mine, dev))
        assert one.wer == pytest.approx(share(texts, dev, str.split))
        assert one.cer == pytest.approx(share(texts, dev, list))
        assert one.utterances == 4 and one.words == sum(len(said.split()) for said in dev.references.values())
    assert [one.wer for one in errors_of(mine, dev, tokenizer=SPELLED)] == sorted(one.wer for one in found.values())


def test_only_decoders_that_fit(dev: EvaluationSet) -> None:
    assert [one.decoder for one in errors_of(model(), dev)] == ["greedy"]
    phones = Lexicon.from_pairs([("low", ["l"]), ("high", ["h"]), ("up", ["l", "h"])])
    states = model(("SIL", "l_0", "h_0"), "hmm", log_prior=torch.zeros(3) - 1.1)
    assert [one.decoder for one in errors_of(states, dev, tokenizer=phones)] == ["graph"]
    for unreadable in (states, model(("<blk>", "l", "h"))):
        with pytest.raises(ConfigError, match="lexicon"):
            errors_of(unreadable, dev)


def test_signs_and_cases_are_no_errors_of_a_text_teacher(dev: EvaluationSet) -> None:
    said = iter(dev.references.values())

    def transcribe(samples: Sequence[Any]) -> list[Transcription]:
        return [Transcription([WrittenText(f"{next(said).upper()}!")]) for _ in samples]

    (found,) = errors_of(TextTeacher(transcribe, "f", spec="text:mine"), dev)
    assert (found.decoder, found.wer, found.cer) == ("own text", 0.0, 0.0)
    with pytest.raises(CorpusError, match="'text:mine' takes at most 0.01; cut it"):
        errors_of(TextTeacher(transcribe, "f", spec="text:mine", max_seconds=0.01), dev)

    def fails(samples: Sequence[Any]) -> list[Transcription]:
        raise RuntimeError("no text today")

    with pytest.raises(AsrkdError, match="fails on 'labeled-0' and what follows .RuntimeError: no text today."):
        errors_of(TextTeacher(fails, "f", spec="text:mine"), dev)


def test_a_teacher_is_compared_with_the_best_of_each() -> None:
    ours = [ErrorRates("a", "graph", 0.3, 0.1, 9, 2), ErrorRates("a", "greedy", 0.5, 0.2, 9, 2)]
    theirs = [ErrorRates("b", "greedy", 0.3, 0.1, 9, 2)]
    assert "teacher 'a' has 30.00 % word error rate on 'dev' (graph), which is not below" in not_better(
        ours, theirs, "'dev'"
    )
    assert not_better([ErrorRates("a", "beam", 0.29, 0.1, 9, 2)], theirs, "'dev'") == ""


def test_estimate_says_the_error_on_dev(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text_teachers_of_an_error_test.py").write_text(PYTHON)
    monkeypatch.syspath_prepend(str(tmp_path))
    cuts, spec = str(make_cuts(tmp_path, "a", 3)), "text:python:text_teachers_of_an_error_test:teacher"
    shown = CliRunner().invoke(cli, ["estimate", "--teacher", spec, "--dev", cuts, "--against", spec])
    assert shown.exit_code == 0 and f"  teacher {spec}\n    own text   WER " in shown.stdout
    assert f"  against {spec}\n" in shown.stdout and "which is not below" in caplog.text
    result = CliRunner().invoke(cli, ["estimate", "--teacher", spec, "--dev", cuts, "--json"])
    assert [one["decoder"] for one in json.loads(result.stdout)["dev"]] == ["own text"]
    for wrong, why in (
        ([], "give CUTS and --hours"),
        ([cuts], "CUTS and --hours go together"),
        (["--dev", cuts, "--hours", "1"], "CUTS and --hours go together"),
        ([cuts, "--hours", "1", "--against", spec], "are for --dev, which is missing"),
    ):
        refused = CliRunner().invoke(cli, ["estimate", "--teacher", spec, *wrong])
        assert refused.exit_code == 2 and why in refused.stderr
