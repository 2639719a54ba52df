"""The presets against the packages whose features they are: kaldi-native-fbank as sherpa-onnx sets it, and transformers' Whisper."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.front_end import PRESETS, FrontEnd
from asrkd.corpus.live_front_end import LiveFrontEnd
from asrkd.errors import ConfigError

torch.set_num_threads(1)


def sound(num_samples: int, seed: int, level: float) -> torch.Tensor:
    """Noise under a swelling tone, in -1..1."""
    generator = torch.Generator().manual_seed(seed)
    times = torch.arange(num_samples) / 16000
    tone = torch.sin(times * 2 * torch.pi * (200 + 900 * times)) * torch.sin(times * 3).abs()
    return level * (tone + 0.1 * torch.randn(num_samples, generator=generator)).clamp(-1, 1)


def sherpas(samples: torch.Tensor) -> np.ndarray:
    """(num_windows, 80): kaldi-native-fbank with the settings of sherpa-onnx's `features.h`."""
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.frame_opts.samp_freq = 16000
    options.mel_opts.num_bins = 80
    options.mel_opts.high_freq = -400
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(16000, samples.tolist())
    fbank.input_finished()
    return np.array([fbank.get_frame(i) for i in range(fbank.num_frames_ready)]).reshape(-1, 80)


def whispers(samples: torch.Tensor) -> np.ndarray:
    """(num_frames, 80): those of the 3,000 that transformers makes whose center is within the signal."""
    features = WhisperFeatureExtractor()(samples.numpy(), sampling_rate=16000)["input_features"][0]
    return features.T[: -(-len(samples) // 160)]


REFERENCES = {"sherpa": sherpas, "whisper": whispers}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["sherpa", "whisper"]),
    st.one_of(st.integers(1, 2000), st.integers(1, 40_000)),
    st.integers(0, 9),
    st.sampled_from([1.0, 0.1, 1e-3, 0.0]),
    st.lists(st.integers(1, 9000), max_size=6),
)
def test_a_preset_is_its_reference_live_too(
    preset: str, num_samples: int, seed: int, level: float, cuts: list[int]
) -> None:
    samples = sound(num_samples, seed, level)
    front_end = FrontEnd.from_dict({"preset": preset, "stack": 1, "stride": 1})
    expected = REFERENCES[preset](samples)
    features = front_end(samples)
    assert features.shape == expected.shape == (front_end.frame_law().num_features(num_samples), 80)
    np.testing.assert_allclose(features.numpy(), expected, rtol=0, atol=1e-3)
    live = LiveFrontEnd(front_end)
    places = sorted({min(cut, num_samples) for cut in cuts} | {0, num_samples})
    parts = [live.accept(samples[begin:end]) for begin, end in zip(places[:-1], places[1:], strict=True)]
    np.testing.assert_allclose(torch.cat([*parts, live.finish()]).numpy(), expected, rtol=0, atol=1e-3)


def test_sherpas_frames_are_joined_every_40_ms() -> None:
    samples = sound(32_000, 0, 1.0)
    joined = FrontEnd.from_dict({"preset": "sherpa"})(samples)
    expected = sherpas(samples).reshape(-1, 320)
    assert joined.shape == (50, 320)
    np.testing.assert_allclose(joined.numpy(), expected, rtol=0, atol=1e-3)


def test_a_preset_is_settings_that_others_replace() -> None:
    front_end = FrontEnd.from_dict({"preset": "sherpa", "mean_norm": "causal"})
    assert (front_end.num_mels, front_end.mean_norm) == (80, "causal")
    assert FrontEnd.from_dict(front_end.to_dict()) == front_end and "preset" not in front_end.to_dict()
    assert FrontEnd.from_dict({"preset": "study"}) == FrontEnd()
    assert len({FrontEnd.from_dict({"preset": name}).fingerprint for name in PRESETS}) == len(PRESETS)
    # As before there were presets.
    assert set(FrontEnd().to_dict()) == {
        "sampling_rate",
        "num_mels",
        "frame_length_ms",
        "frame_shift_ms",
        "stack",
        "stride",
        "mean_norm",
        "low_freq",
        "high_freq",
    }
    assert front_end.frame_law() == FrameLaw(400, 160, 4, 4, begin=-120, needed=80)


@pytest.mark.parametrize(
    "values,message",
    [
        ({"preset": "sherpas"}, "^front_end.preset: must be one of study, sherpa, whisper, not 'sherpas'"),
        ({"preset": 3}, "^front_end.preset: .*not 3"),
        ({"filterbank": "mfcc"}, "^front_end.filterbank: must be one of kaldi, whisper, not 'mfcc'"),
        ({"filterbank": "whisper"}, "begin with `preset: whisper`"),
        ({"full_scale": 0}, "^front_end.full_scale: must be above 0, not 0"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FrontEnd.from_dict(values)
