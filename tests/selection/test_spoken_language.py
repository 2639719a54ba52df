"""The spoken language as a measured field, against transformers' own detection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from text_helpers import LANGUAGES, PYTHON, make_whisper

from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.where import parse_where
from asrkd.errors import ModelError
from asrkd.selection.measure import measure_corpus, unreadable_file
from asrkd.selection.overview import look_at
from asrkd.selection.spoken_language import language_detector

pytest.importorskip("transformers")
RATE = 16000


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> str:
    return (
        f"text:transformers:{make_whisper(tmp_path_factory.mktemp('whisper'), seed=4)}"  # takes some noise for English
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of noise of several lengths, one of them longer than the model's window."""
    folder, generator = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for number, seconds in enumerate((0.5, 1, 2, 3, 5, 8, 33)):
        samples = generator.uniform(0.01, 0.3) * generator.standard_normal(round(seconds * RATE))
        soundfile.write(folder / f"clip-{number}.flac", np.clip(samples * np.hanning(len(samples)), -1, 1), RATE)
    (folder / "broken.flac").write_bytes(b"fLaC" + bytes(100))
    return folder


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text_teachers_of_a_test.py").write_text(PYTHON)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_it_is_what_transformers_detects(folder: Path, whisper: str, tmp_path: Path) -> None:
    import transformers

    out = tmp_path / "measured.jsonl"
    tally = measure_corpus(folder, out, language_model=whisper)
    assert (tally.cuts, tally.unreadable) == (8, 1) and "broken" in unreadable_file(out).read_text()
    path = whisper.removeprefix("text:transformers:")
    model = transformers.WhisperForConditionalGeneration.from_pretrained(path).eval()
    processor = transformers.AutoProcessor.from_pretrained(path)
    cuts = list(iterate_json(out))
    for cut in cuts:
        samples, _ = soundfile.read(cut["recording"]["sources"][0]["source"], dtype="float32")
        features = processor(samples[: 30 * RATE], sampling_rate=RATE, return_tensors="pt").input_features
        (token,) = model.detect_language(features).tolist()
        assert cut["custom"]["spoken_language"] == processor.tokenizer.decode(token).strip("<|>")
        with torch.no_grad():
            logits = model(features, decoder_input_ids=torch.tensor([[257]])).logits[0, 0]
        expected = float(logits[list(LANGUAGES.values())].softmax(0).max())
        assert cut["custom"]["spoken_language_probability"] == pytest.approx(expected, abs=1e-3)
    assert {cut["custom"]["spoken_language"] for cut in cuts} == {"de", "en"}
    is_german = parse_where("custom.spoken_language=de")
    german = [cut["id"] for cut in cuts if is_german(cut)]
    assert german == [cut["id"] for cut in cuts if cut["custom"]["spoken_language"] == "de"]
    assert look_at(out).languages.total() == len(cuts) == 7


def test_the_same_with_several_processes(folder: Path, whisper: str, tmp_path: Path) -> None:
    for workers in (1, 2):
        measure_corpus(folder, tmp_path / f"{workers}.jsonl", language_model=whisper, workers=workers)
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_without_a_model_no_language_is_claimed(folder: Path, tmp_path: Path) -> None:
    measure_corpus(folder, tmp_path / "plain.jsonl")
    assert not any("spoken_language" in cut["custom"] for cut in iterate_json(tmp_path / "plain.jsonl"))


def test_a_cut_that_the_model_cannot_take_has_its_reason(tmp_path: Path, own: None) -> None:
    (tmp_path / "clips").mkdir()
    for name, count in (("even", RATE), ("odd", RATE + 1)):
        soundfile.write(tmp_path / f"clips/{name}.flac", np.full(count, 0.1), RATE)
    out = tmp_path / "out.jsonl"
    tally = measure_corpus(tmp_path / "clips", out, language_model="text:python:text_teachers_of_a_test:picky")
    assert (tally.cuts, tally.unreadable) == (2, 1)
    (cut,) = iterate_json(out)
    assert (cut["id"], cut["custom"]["spoken_language"]) == ("even", "en")
    assert "picky' fails: " in unreadable_file(out).read_text() and "no text today" in unreadable_file(out).read_text()


def test_models_that_cannot_say(folder: Path, tmp_path: Path, own: None) -> None:
    english = make_whisper(tmp_path / "english", multilingual=False)
    for spec, why in (
        (f"text:transformers:{english}", "does not say which language is spoken, .*; give a multilingual Whisper"),
        ("text:python:text_teachers_of_a_test:fewer", "0 transcriptions of 1 utterances"),
        ("text:transformers:./nothing", "it is not there"),
        ("checkpoint:x", "of no known kind"),
    ):
        language_detector.cache_clear()
        with pytest.raises(ModelError, match=why) as error:
            measure_corpus(folder, tmp_path / "out.jsonl", language_model=spec)
        assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("out*"))
