from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.corpus.front_end import FrontEnd, subtract_mean
from asrkd.errors import ConfigError, CorpusError

torch.set_num_threads(1)


def noise(num_samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_samples, generator=torch.Generator().manual_seed(seed)) * 0.1


front_ends = st.builds(
    FrontEnd,
    sampling_rate=st.sampled_from([8000, 11025, 16000, 22050, 44100]),
    num_mels=st.sampled_from([4, 8]),
    frame_length_ms=st.sampled_from([20.0, 25.0, 32.0]),
    frame_shift_ms=st.sampled_from([5.0, 10.0, 12.5]),
    stack=st.integers(1, 4),
    stride=st.integers(1, 4),
    mean_norm=st.sampled_from(["none", "utterance", "causal"]),
)


@settings(max_examples=60, deadline=None)
@given(front_ends, st.integers(0, 9000), st.integers(1, 4))
def test_the_frame_law_is_what_the_front_end_makes(front_end: FrontEnd, num_samples: int, factor: int) -> None:
    features = front_end(noise(num_samples))
    law = front_end.frame_law(factor)
    assert features.shape == (law.num_features(num_samples), front_end.feature_dim)
    assert features.dtype == torch.float32 and bool(torch.isfinite(features).all())
    assert law.num_frames(num_samples) == math.ceil(len(features) / factor)


@pytest.mark.parametrize("stack,stride", [(1, 1), (3, 3), (3, 2), (2, 3), (4, 1)])
def test_stacking_equals_a_plain_loop(stack: int, stride: int) -> None:
    samples = noise(6000)
    plain = FrontEnd(num_mels=5, stack=1, stride=1)(samples)
    expected = [
        torch.cat([plain[first + i] for i in range(stack)]) for first in range(0, len(plain) - stack + 1, stride)
    ]
    torch.testing.assert_close(FrontEnd(num_mels=5, stack=stack, stride=stride)(samples), torch.stack(expected))


def test_means_equal_a_plain_loop() -> None:
    features = torch.randn(50, 3) + 7
    causal = torch.stack([features[t] - features[: t + 1].mean(dim=0) for t in range(50)])
    torch.testing.assert_close(subtract_mean(features, "causal"), causal, rtol=0, atol=1e-5)
    torch.testing.assert_close(subtract_mean(features, "utterance").mean(dim=0), torch.zeros(3), rtol=0, atol=1e-5)
    assert subtract_mean(features, "none") is features


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5000), st.sampled_from(["none", "causal"]))
def test_frames_do_not_depend_on_later_samples(cut_at: int, mean_norm: str) -> None:
    front_end = FrontEnd(num_mels=4, stack=3, stride=2, mean_norm=mean_norm)
    samples = noise(5000)
    whole, head = front_end(samples), front_end(samples[:cut_at])
    torch.testing.assert_close(whole[: len(head)], head, rtol=0, atol=1e-5)


def test_the_mean_over_the_utterance_depends_on_later_samples() -> None:
    front_end, samples = FrontEnd(num_mels=4), noise(5000)
    head = front_end(samples[:2500])
    assert not torch.allclose(front_end(samples)[: len(head)], head, atol=1e-3)


@pytest.mark.parametrize(
    "sampling_rate,num_mels,high_freq", [(16000, 80, -400.0), (16000, 64, 0.0), (8000, 23, 3700.0)]
)
def test_log_mel_equals_torchaudios(sampling_rate: int, num_mels: int, high_freq: float) -> None:
    samples = noise(sampling_rate)
    found = FrontEnd(sampling_rate, num_mels, stack=1, stride=1, mean_norm="none", high_freq=high_freq)(samples)
    expected = torchaudio.compliance.kaldi.fbank(
        samples[None] * 32768,
        sample_frequency=sampling_rate,
        num_mel_bins=num_mels,
        high_freq=high_freq,
        dither=0.0,
        snip_edges=True,
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


def test_settings_round_trip_and_bind_to_a_fingerprint() -> None:
    front_end = FrontEnd(num_mels=40, mean_norm="causal")
    assert FrontEnd.from_dict(front_end.to_dict()) == front_end
    assert FrontEnd.from_dict(front_end.to_dict()).fingerprint == front_end.fingerprint
    changed = [FrontEnd(**{name: value}) for name, value in
               [("sampling_rate", 8000), ("num_mels", 40), ("frame_length_ms", 20.0), ("frame_shift_ms", 5.0), ("stack", 2),
                ("stride", 2), ("mean_norm", "none"), ("low_freq", 0.0), ("high_freq", -400.0)]]  # fmt: skip
    assert len({one.fingerprint for one in [FrontEnd(), *changed]}) == 10


def test_equal_settings_have_one_fingerprint() -> None:
    a, b = FrontEnd(frame_length_ms=25, low_freq=20), FrontEnd(frame_length_ms=25.0, low_freq=20.0)
    assert a == b and a.fingerprint == b.fingerprint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mean_norm": "global"}, "^front_end.mean_norm: must be one of .*causal, not 'global'"),
        ({"num_mels": 0}, "^front_end.num_mels: .*not 0"),
        ({"stack": -1}, "^front_end.stack: .*not -1"),
        ({"num_mel": 4}, "num_mel"),
        ({"sampling_rate": "fast"}, "^front_end.sampling_rate: .*'fast'"),
        ({"high_freq": 9000.0}, "high_freq 9000.0 .*0..8000.0"),
        ({"low_freq": 8000.0}, "low_freq 8000.0"),
        ({"high_freq": -8000.0}, "20.0..0.0"),
        ({"frame_length_ms": 0.1}, "^front_end.frame_length_ms: is 0.1, which is 1 samples"),
        ({"frame_shift_ms": 0.01}, "^front_end.frame_shift_ms: is 0.01, which is 0 samples"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_made(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FrontEnd.from_dict(values)


def test_samples_that_cannot_be_used_are_refused() -> None:
    front_end = FrontEnd(num_mels=4)
    with pytest.raises(CorpusError, match=r"\(2, 400\)"):
        front_end(torch.zeros(2, 400))
    for value in (np.nan, np.inf):
        samples = noise(2000)
        samples[7] = value
        with pytest.raises(CorpusError, match="NaN or infinite"):
            front_end(samples)
    # Digital silence is audio.
    assert bool(torch.isfinite(front_end(torch.zeros(2000))).all())
