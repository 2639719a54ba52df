from __future__ import annotations

import sys

import numpy as np
import pytest

from asrkd.errors import ConfigError, DependencyError
from asrkd_recipes.demo.espeak import synthesize


def test_same_arguments_same_samples_whatever_was_said_before() -> None:
    first, sampling_rate = synthesize("turn on the kitchen light", "en-us+f2", rate=150, pitch=40, pitch_range=60)
    synthesize("seven", "en-gb-scotland", rate=300)
    again, _ = synthesize("turn on the kitchen light", "en-us+f2", rate=150, pitch=40, pitch_range=60)
    assert sampling_rate == 22050
    assert first.dtype == np.int16 and np.abs(first.astype(int)).max() > 3000
    np.testing.assert_array_equal(first, again)


def test_rate_changes_the_length_and_pitch_the_fundamental() -> None:
    slow, rate = synthesize("nine one four", "en-us", rate=120)
    fast, _ = synthesize("nine one four", "en-us", rate=240)
    assert len(slow) > 1.4 * len(fast)
    low, _ = synthesize("one one one one", "en-us", pitch=10, pitch_range=0)
    high, _ = synthesize("one one one one", "en-us", pitch=90, pitch_range=0)
    assert _fundamental(high, rate) > 1.2 * _fundamental(low, rate)


def test_word_gap_lengthens_the_pauses() -> None:
    plain, _ = synthesize("one two three", "en-us")
    explicit, _ = synthesize("one two three", "en-us", word_gap=0)
    apart, rate = synthesize("one two three", "en-us", word_gap=20)
    np.testing.assert_array_equal(plain, explicit)
    assert len(apart) - len(plain) > 2 * 0.1 * rate


def test_voices_differ() -> None:
    one, _ = synthesize("kitchen", "en-us")
    other, _ = synthesize("kitchen", "en-gb-scotland")
    assert len(one) != len(other) or not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("text", "voice", "settings", "quoted"),
    [
        ("one", "no-such", {}, "no-such"),
        ("one", "en-us+no-such", {}, "no variant 'no-such'"),
        ("one", "en-us+", {}, "no variant ''"),
        ("  ", "en-us", {}, "nothing to say"),
        ("one", "en-us", {"rate": 900}, "900"),
        ("one", "en-us", {"pitch": -1}, "-1"),
        ("one", "en-us", {"word_gap": 101}, "101"),
    ],
)
def test_what_cannot_be_spoken(text: str, voice: str, settings: dict[str, int], quoted: str) -> None:
    with pytest.raises(ConfigError, match=quoted):
        synthesize(text, voice, **settings)


def test_missing_package_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DependencyError, match=r"pip install 'asrkd\[demo\]'"):
        synthesize("one", "en-us")


def _fundamental(samples: np.ndarray, sampling_rate: int) -> float:
    """Hertz, from the highest autocorrelation within 60..400 Hz."""
    signal = samples.astype(np.float64)
    spectrum = np.abs(np.fft.rfft(signal, 2 * len(signal))) ** 2
    correlation = np.fft.irfft(spectrum)
    lags = np.arange(sampling_rate // 400, sampling_rate // 60)
    return float(sampling_rate / lags[np.argmax(correlation[lags])])
