from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from text_helpers import PYTHON, make_whisper

from asrkd.acoustic import load_model
from asrkd.errors import ModelError
from asrkd.text_teachers import TextTeacher, Transcription, load_text_teacher

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("whisper"))


def noise(*lengths: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        (0.1 * rng.standard_normal(int(16000 * seconds)) * np.hanning(int(16000 * seconds))).astype(np.float32)
        for seconds in lengths
    ]


def with_settings(folder: Path, model: Any, **settings: Any) -> str:
    path = folder / "settings.yaml"
    lines = [f"model: {model}", *(f"{name}: {value}" for name, value in settings.items())]
    path.write_text("\n".join(lines))
    return f"text:{path}"


def test_whisper_is_transformers_own_generate_in_any_batch(whisper: Path) -> None:
    import transformers

    teacher = load_text_teacher(f"text:transformers:{whisper}")
    assert teacher.batch_size == 16 and teacher.max_seconds == 30 and teacher.sampling_rate == 16000
    samples = noise(0.4, 1.7, 3.0)
    together = teacher(samples)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    processor = transformers.AutoProcessor.from_pretrained(whisper)
    for one, found in zip(samples, together, strict=True):
        features = processor(one, sampling_rate=16000, return_tensors="pt").input_features
        tokens = model.generate(features, max_new_tokens=20, task="transcribe")
        best = found.hypotheses[0]
        assert best.text == processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        (alone,) = teacher([one])
        assert alone.hypotheses[0].text == best.text and list(alone.hypotheses[0].tokens) == list(best.tokens)
        np.testing.assert_allclose(alone.hypotheses[0].log_probs, best.log_probs, atol=1e-3)
        assert found.no_speech is not None and 0 < found.no_speech < 1
        assert found.language in ("en", "de") and found.language_probability and 0.5 <= found.language_probability <= 1


def test_log_probs_are_those_of_the_model(whisper: Path, tmp_path: Path) -> None:
    """Against the decoder run over the finished text."""
    import transformers

    teacher = load_text_teacher(
        with_settings(tmp_path, f"transformers:{whisper}", language="de", num_beams=3, n_best=3)
    )
    (found,) = teacher(noise(1.0))
    assert len({one.text for one in found.hypotheses}) == 3, "whisper's own generate gives the best three times"
    totals = [one.total / (len(one.tokens) + one.finished) for one in found.hypotheses]
    model = transformers.WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    processor = transformers.AutoProcessor.from_pretrained(whisper)
    features = processor(noise(1.0)[0], sampling_rate=16000, return_tensors="pt").input_features
    # Tokens that are not text are not kept, so only sequences without any can be run again.
    whole = [one for one in found.hypotheses if len(one.tokens) == 20]
    assert whole
    for one in whole:
        prompt = [257, 259, 261, 263]
        with torch.no_grad():
            logits = model(features, decoder_input_ids=torch.tensor([[*prompt, *one.tokens]])).logits[0]
        logits[len(prompt) - 1, 256] = -torch.inf  # begin_suppress_tokens
        expected = logits.log_softmax(-1)[range(3, 23), list(one.tokens)]
        np.testing.assert_allclose(one.log_probs, expected, atol=1e-4)
    assert all(value < 0 for value in totals)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_numerals_are_not_written_where_they_are_suppressed(whisper: Path, tmp_path: Path, num_beams: int) -> None:
    """A model whose digits are the likeliest tokens, against transformers' own generate without these tokens."""
    import transformers

    model = transformers.WhisperForConditionalGeneration.from_pretrained(whisper)
    processor = transformers.AutoProcessor.from_pretrained(whisper)
    digits = [processor.tokenizer.get_vocab()[digit] for digit in "0123456789%$"]
    with torch.no_grad():
        model.proj_out.weight[digits] *= 4
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    settings = {"num_beams": num_beams, "n_best": num_beams, "language": "en", "word_times": True}
    with_figures = load_text_teacher(with_settings(tmp_path, f"transformers:{tmp_path}", **settings))
    without = load_text_teacher(with_settings(tmp_path, f"transformers:{tmp_path}", **settings, suppress_numerals=True))
    assert with_figures.fingerprint != without.fingerprint
    samples = noise(0.6, 1.1)
    assert any(set(one.tokens) & set(digits) for found in with_figures(samples) for one in found.hypotheses)
    for one, found in zip(samples, without(samples), strict=True):
        features = processor(one, sampling_rate=16000, return_tensors="pt").input_features
        tokens = model.eval().generate(
            features, max_new_tokens=20, task="transcribe", language="en", suppress_tokens=digits, num_beams=num_beams
        )
        assert found.hypotheses[0].text == processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        assert found.hypotheses[0].tokens and found.words is not None
        for written in found.hypotheses:
            assert not set(written.tokens) & set(digits) and not any(map(str.isdigit, written.text))


def test_times_of_words(whisper: Path, tmp_path: Path) -> None:
    teacher = load_text_teacher(with_settings(tmp_path, f"transformers:{whisper}", language="en", word_times=True))
    (found,) = teacher(noise(1.5))
    assert found.words is not None
    times = [time for word in found.words for time in (word.start, word.end)]
    assert times == sorted(times) and times[-1] <= 1.5
    assert "".join(word.text for word in found.words).replace(" ", "") == found.hypotheses[0].text.replace(" ", "")


def test_settings_are_part_of_the_fingerprint_and_places_are_not(whisper: Path, tmp_path: Path) -> None:
    plain = load_text_teacher(f"text:transformers:{whisper}")
    same = load_text_teacher(with_settings(tmp_path, f"transformers:{whisper}"))
    assert same.fingerprint == plain.fingerprint
    for change in (
        {"num_beams": 2},
        {"language": "en"},
        {"suppress_numerals": True},
        {"flags": "{max_rate: 9}"},
        {"text": "{case: upper}"},
    ):
        assert (
            load_text_teacher(with_settings(tmp_path, f"transformers:{whisper}", **change)).fingerprint
            != plain.fingerprint
        )
    other = make_whisper(tmp_path / "other", seed=1)
    assert load_text_teacher(f"text:transformers:{other}").fingerprint != plain.fingerprint


def test_wrong_settings_are_one_line(whisper: Path, tmp_path: Path) -> None:
    spec = f"transformers:{whisper}"
    for settings, why in (
        ({"language": "xx"}, "language 'xx'"),
        ({"n_best": 2}, "n_best: is 2, but a beam of 1 has no more than 1"),
        ({"beams": 2}, "beams"),
        ({"compute_type": "int8"}, "compute_type is 'int8', but transformers takes float32"),
    ):
        with pytest.raises(ModelError, match=why) as error:
            load_text_teacher(with_settings(tmp_path, spec, **settings))
        assert "\n" not in str(error.value)
    english = make_whisper(tmp_path / "english", multilingual=False)
    load_text_teacher(with_settings(tmp_path, f"transformers:{english}", language="en"))
    with pytest.raises(ModelError, match="of English alone; leave language 'de'"):
        load_text_teacher(with_settings(tmp_path, f"transformers:{english}", language="de"))


def test_folders_that_are_no_text_teacher(whisper: Path, tmp_path: Path) -> None:
    import shutil

    import transformers

    for missing, why in (
        ("generation_config.json", "has no generation_config.json"),
        ("preprocessor_config.json", "cannot be loaded as a speech-to-text model"),
        ("tokenizer.json", "cannot be loaded as a speech-to-text model"),
        ("model.safetensors", "cannot be loaded as a speech-to-text model"),
    ):
        folder = tmp_path / missing
        shutil.copytree(whisper, folder)
        (folder / missing).unlink()
        with pytest.raises(ModelError, match=why) as error:
            load_text_teacher(f"text:transformers:{folder}")
        assert "\n" not in str(error.value)
    transformers.BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="it is a bert, which is not an encoder-decoder"):
        load_text_teacher(f"text:transformers:{tmp_path / 'bert'}")
    for spec in ("text:", "text:whisper", "text:transformers:", "text:music:x", "text:nosuch.yaml"):
        with pytest.raises(ModelError):
            load_text_teacher(spec)
    with pytest.raises(ModelError, match="writes text and gives no posteriors of frames"):
        load_model(f"text:transformers:{whisper}")


def test_a_name_on_the_hub_without_network_takes_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*args: Any, **kwargs: Any) -> None:
        assert kwargs["timeout"] <= 10
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    began = time.monotonic()
    for spec in ("text:transformers:openai/no-such-whisper", "text:faster-whisper:openai/no-such-whisper"):
        pytest.importorskip("faster_whisper" if "faster" in spec else "transformers")
        with pytest.raises(
            ModelError, match="not in the hub's cache, and the hub cannot give it .OSError: no route to host"
        ):
            load_text_teacher(spec)
    assert time.monotonic() - began < 30
    with pytest.raises(
        ModelError, match="'./nothing' cannot be loaded as a model of transformers that writes text: it is not there"
    ):
        load_text_teacher("text:transformers:./nothing")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text_teachers_of_a_test.py").write_text(PYTHON)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own")
def test_code_of_your_own() -> None:
    teacher = load_text_teacher("text:python:text_teachers_of_a_test:teacher")
    assert isinstance(teacher, TextTeacher) and teacher.batch_size == 3 and teacher.max_seconds == 30
    (found,) = teacher(noise(0.5))
    assert isinstance(found, Transcription) and found.hypotheses[0].text == "Um, 8 0 0 0!"
    for name, why in (("nothing", "returns a int"), ("missing", "has no callable 'missing'")):
        with pytest.raises(ModelError, match=why):
            load_text_teacher(f"text:python:text_teachers_of_a_test:{name}")
    for name, why in (("wrong", "without hypotheses"), ("fewer", "0 transcriptions of 1 utterances")):
        with pytest.raises(ModelError, match=why):
            load_text_teacher(f"text:python:text_teachers_of_a_test:{name}")(noise(0.5))
