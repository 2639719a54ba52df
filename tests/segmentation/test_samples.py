"""Blocks of a cut, joined, are its resampled samples; Silero's scores block by block are those of the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from lhotse import Recording
from silero_vad.sequence_vad import SileroVADSequence

from asrkd.corpus.audio import read_audio
from asrkd.segmentation import samples as samples_module
from asrkd.segmentation.activity import STEP, StepLevels, activity, energy_scores, level_db
from asrkd.segmentation.samples import blocks
from asrkd.segmentation.silero import SHIFT, WINDOW


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_module, "BLOCK_SECONDS", 3)


def a_cut(folder: Path, rate: int, seconds: float, channels: int = 1):  # noqa: ANN201
    generator = np.random.default_rng(0)
    audio = 0.1 * generator.standard_normal((round(rate * seconds), channels))
    soundfile.write(folder / "a.wav", audio, rate)
    return Recording.from_file(folder / "a.wav").to_cut()


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.4, 3.0, 9.37])
def test_blocks_are_the_whole_resampled(short_blocks: None, tmp_path: Path, rate: int, seconds: float) -> None:
    cut = a_cut(tmp_path, rate, seconds)
    found = list(blocks(cut, 16000))
    whole = torchaudio.functional.resample(torch.from_numpy(read_audio(cut, rate)), rate, 16000).numpy()
    assert np.concatenate(found).shape == whole.shape
    np.testing.assert_allclose(np.concatenate(found), whole, rtol=0, atol=1e-6)
    assert all(len(block) <= 4 * 16000 for block in found)


def test_blocks_of_part_of_a_recording_with_two_channels(short_blocks: None, tmp_path: Path) -> None:
    cut = a_cut(tmp_path, 16000, 12.0, channels=2).truncate(offset=1.25, duration=8.1)
    np.testing.assert_array_equal(np.concatenate(list(blocks(cut, 16000))), read_audio(cut, 16000))


@pytest.mark.parametrize("count", [300, 512, 16000 * 9 + 77, 512 * 128, 512 * 128 + 1, 512 * (128 + 96)])
def test_scores_of_blocks_are_the_packages_own_in_windows(count: int) -> None:
    generator = np.random.default_rng(1)
    audio = (0.3 * generator.standard_normal(count)).astype(np.float32)
    audio *= np.sin(np.arange(len(audio)) / 4000).astype(np.float32)
    model = SileroVADSequence(str(files("silero_vad.data").joinpath("silero_vad_16k_sequence.onnx")))
    expected = np.zeros(-(-count // 512), np.float32)
    # Each window as a recording of its own, but for the 64 samples that the model sees of what is before it.
    for first in range(0, max(1, len(expected) - (WINDOW - SHIFT)), SHIFT):
        part = audio[max(0, first - 1) * 512 : (first + WINDOW) * 512]
        frames = np.pad(part, (0, -len(part) % 512)).reshape(-1, 512)
        contexts = np.concatenate([np.zeros((1, 64), np.float32), frames[:-1, -64:]])
        own = np.concatenate([contexts, frames], axis=1)[bool(first) :]
        zeros = np.zeros((1, 1, 128), np.float32)
        scores = model.session.run(["speech_probs"], {"input": own, "h": zeros, "c": zeros})[0].reshape(-1)
        expected[first : first + WINDOW] = np.maximum(expected[first : first + WINDOW], scores)
    if count < 512 * WINDOW:
        np.testing.assert_allclose(expected, model.audio_forward(audio), rtol=0, atol=1e-5)
    for sizes in ([], [1, 511, 512, 513, 40_000, 3]):
        found, levels = activity(iter(np.split(audio, np.cumsum(sizes))), use_silero=True)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert len(levels) == -(-count // 128)


@pytest.mark.parametrize("count", [1, 127, 128, 129, 384, 16000, 16001])
def test_levels_of_steps_are_those_of_three_steps(count: int) -> None:
    audio = np.random.default_rng(3).normal(0.1, 0.2, count).astype(np.float32)
    padded = np.pad(audio, (STEP, -count % STEP + STEP))
    expected = [
        10 * np.log10(padded[at : at + 3 * STEP].var() + 1e-12) for at in range(0, len(padded) - 2 * STEP, STEP)
    ]
    for sizes in ([], [1, 127, 128, 300, 301, 9000]):
        model = StepLevels()
        parts = [model.accept(part) for part in np.split(audio, sizes)]
        np.testing.assert_allclose(np.concatenate([*parts, model.finish()]), expected, rtol=0, atol=0.05)


def test_energy_is_measured_against_the_noise_floor() -> None:
    generator = np.random.default_rng(2)
    audio = (0.001 * generator.standard_normal(16000 * 60)).astype(np.float32)
    audio[16000 * 20 : 16000 * 30] *= 30.0  # 30 dB above
    audio[16000 * 40 :] *= 10.0  # the noise gets louder and stays so
    scores = energy_scores(level_db(iter(np.split(audio, [5000, 500_000]))))
    assert len(scores) == -(-len(audio) // 512) == len(level_db(iter([audio])))
    at = lambda begin, end: scores[int(begin / 0.032) : int(end / 0.032)]  # noqa: E731
    assert (at(21, 29) > 0.9).all() and (at(1, 19) < 0.5).mean() > 0.99 and (at(56, 60) < 0.5).mean() > 0.99
    assert energy_scores(level_db(iter([np.zeros(16000, np.float32)]))).max() == 0.0
