"""Kokoro's voices: a folder that sherpa-onnx takes, whose graph is a few sines in place of the model; what is wrong with a folder is told before sherpa-onnx sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kokoro_helpers import RATE, TOKEN_SAMPLES, write_folder

from asrkd.errors import ConfigError
from asrkd_recipes.demo.kokoro import VARIABLE, Kokoro, kokoro_folder
from asrkd_recipes.demo.run import run_demo
from asrkd_recipes.demo.speakers import SAMPLING_RATE, draw_speakers


def test_speakers_of_its_voices(tmp_path: Path) -> None:
    kokoro = Kokoro(write_folder(tmp_path / "kokoro"))
    assert kokoro.voices == {"American": ["af_one", "am_two"], "British": ["bf_three"]}
    short, rate = kokoro.speak("Call", "af_one", rate=175, pitch=50, pitch_range=50)
    long, _ = kokoro.speak("call door", "af_one", rate=175, pitch=50, pitch_range=50)
    other, _ = kokoro.speak("call", "bf_three", rate=175, pitch=50, pitch_range=50)
    assert rate == RATE and len(long) > len(short) >= 2 * TOKEN_SAMPLES
    assert len(other) == len(short) and not np.allclose(other, short)
    groups = draw_speakers(kokoro, {"labeled": 2, "a": 5}, np.random.default_rng(0), narrow="labeled")
    assert {speaker.voice for speaker in groups["labeled"]}.isdisjoint(speaker.voice for speaker in groups["a"])
    said = groups["a"][0].say("call door")
    assert said.dtype == np.float32 and 0.2 * SAMPLING_RATE < len(said) < SAMPLING_RATE


def test_a_word_without_pronunciation_is_refused(tmp_path: Path) -> None:
    kokoro = Kokoro(write_folder(tmp_path / "kokoro"))
    with pytest.raises(ConfigError, match="the word 'fan' of 'call fan' is not in"):
        kokoro.speak("call fan", "af_one", rate=175, pitch=50, pitch_range=50)


@pytest.mark.parametrize("name", ["model.onnx", "voices.bin", "tokens.txt", "lexicon-us-en.txt"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write_folder(tmp_path / "kokoro") / name).unlink()
    with pytest.raises(ConfigError, match=f"is not a Kokoro model of sherpa-onnx: {name} is missing"):
        Kokoro(tmp_path / "kokoro")


def test_files_that_sherpa_onnx_would_end_the_process_for(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "bytes")
    (folder / "voices.bin").write_bytes(bytes(100))
    with pytest.raises(ConfigError, match="has 100 bytes, but model.onnx says 4 speakers"):
        Kokoro(folder)
    (folder / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ConfigError, match="cannot be loaded as an ONNX graph"):
        Kokoro(folder)
    with pytest.raises(ConfigError, match="has no style_dim in its metadata"):
        Kokoro(write_folder(tmp_path / "metadata", metadata={"style_dim": ""}))
    with pytest.raises(ConfigError, match="says many speakers"):
        Kokoro(write_folder(tmp_path / "number", metadata={"n_speakers": "many"}))
    with pytest.raises(ConfigError, match="none of English"):
        Kokoro(write_folder(tmp_path / "names", names=("zf_four", "jm_five")))


def test_the_demo_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    options = {"seed": 1, "workers": 1, "progress": lambda *_: None}
    with pytest.raises(ConfigError, match=f"give kokoro:FOLDER, or set {VARIABLE}"):
        run_demo(str(tmp_path / "demo"), voices="kokoro", **options)
    with pytest.raises(ConfigError, match="'festival', but must be espeak, kokoro:FOLDER or kokoro"):
        run_demo(str(tmp_path / "demo"), voices="festival", **options)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    assert kokoro_folder("") == str(tmp_path / "none")
    with pytest.raises(ConfigError, match="model.onnx, tokens.txt, voices.bin, lexicon-us-en.txt is missing"):
        run_demo(str(tmp_path / "demo"), voices="kokoro", **options)
    assert not (tmp_path / "demo").exists()
