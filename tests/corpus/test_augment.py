from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.corpus.augment import (
    Augment,
    AugmentConfig,
    FrequencyWarp,
    Gain,
    LossyCodec,
    NoiseAugment,
    Reverb,
    SpecAugment,
    TimeWarp,
    load_noises,
    utterance_rng,
)
from asrkd.corpus.augment.samples import CODECS
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError, CorpusError


def _speech(length: int = 4000) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(length)).astype(np.float32)


@given(snr=st.floats(-10, 40), length=st.integers(1, 9000), noise_length=st.integers(1, 9000))
@settings(max_examples=50, deadline=None)
def test_noise_is_added_at_the_snr_that_was_asked(snr: float, length: int, noise_length: int) -> None:
    speech = _speech(length).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal(noise_length).astype(np.float32)
    noisy = NoiseAugment([noise], (snr, snr), 1.0)(speech, np.random.default_rng(2))
    assert noisy.shape == speech.shape and noisy.dtype == np.float32
    added = noisy.astype(np.float64) - speech
    measured = 10 * np.log10((speech.astype(np.float64) ** 2).sum() / (added**2).sum())
    assert measured == pytest.approx(snr, abs=0.1)


def test_a_short_noise_is_repeated_and_a_long_one_is_not() -> None:
    ramp = np.arange(1, 8, dtype=np.float32)
    added = NoiseAugment([ramp], (0.0, 0.0), 1.0)(np.ones(20, np.float32), np.random.default_rng(0)) - 1
    np.testing.assert_allclose(added[:13], added[7:], rtol=1e-5)
    ramp = np.arange(1, 100, dtype=np.float32)
    added = NoiseAugment([ramp], (0.0, 0.0), 1.0)(np.ones(20, np.float32), np.random.default_rng(0)) - 1
    assert np.all(np.diff(added) > 0)


def test_probability_decides_how_many_are_noisy() -> None:
    speech, noise = _speech(100), _speech(200)
    augment = NoiseAugment([noise], (0, 0), 0.3)
    noisy = sum(not np.array_equal(augment(speech, utterance_rng(0, 0, str(i))), speech) for i in range(1000))
    assert 250 < noisy < 350


def test_silence_stays_finite() -> None:
    for speech, noise in ((np.zeros(50, np.float32), _speech(99)), (_speech(50), np.zeros(99, np.float32))):
        out = NoiseAugment([noise], (5, 5), 1.0)(speech, np.random.default_rng(0))
        np.testing.assert_array_equal(out, speech)


def test_an_utterance_is_augmented_the_same_in_the_same_pass_and_differently_in_another() -> None:
    speech, augment = _speech(), NoiseAugment([_speech(9000), _speech(5000)], (0, 20), 1.0)
    first = augment(speech, utterance_rng(1, 2, "a"))
    np.testing.assert_array_equal(first, augment(speech, utterance_rng(1, 2, "a")))
    for other in (utterance_rng(0, 2, "a"), utterance_rng(1, 3, "a"), utterance_rng(1, 2, "b")):
        assert not np.array_equal(first, augment(speech, other))


def test_gain_multiplies_within_its_range() -> None:
    speech = _speech()
    gains = [20 * np.log10((Gain((-3, 6))(speech, utterance_rng(0, 0, str(i))) / speech)[0]) for i in range(200)]
    assert -3.001 <= min(gains) < -2 and 5 < max(gains) <= 6.001


@given(frames=st.integers(0, 60), stack=st.integers(1, 3), seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_spec_augment_masks_whole_frames_and_the_same_bins_of_every_stacked_frame(
    frames: int, stack: int, seed: int
) -> None:
    features = torch.randn(frames, stack * 10, generator=torch.Generator().manual_seed(seed))
    before = features.clone()
    augment = SpecAugment(2, 5, 0.5, 2, 3, 1.0)
    out = augment(features, np.random.default_rng(seed), stack=stack)
    assert torch.equal(features, before) and out.shape == features.shape
    masked = out != features
    if frames < 2 or bool(masked.all()):
        return  # with every frame masked, nothing tells which bins are masked besides
    rows = masked.all(dim=1)
    columns = masked.all(dim=0)
    assert torch.equal(masked, rows[:, None] | columns[None, :])
    assert int(rows.sum()) <= 10 and int(columns.view(stack, 10)[0].sum()) <= 6
    assert (columns.view(stack, 10) == columns.view(stack, 10)[0]).all()
    assert torch.equal(out[masked], features.mean(dim=0).expand_as(features)[masked])


def test_spec_augment_masks_something() -> None:
    features = torch.randn(100, 30, generator=torch.Generator().manual_seed(0))
    shares = [
        (SpecAugment()(features, utterance_rng(0, 0, str(i)), stack=1) != features).float().mean() for i in range(50)
    ]
    assert 0.1 < float(torch.stack(shares).mean()) < 0.8


def test_load_noises_reads_averages_and_resamples(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    stereo = np.stack([np.full(800, 0.25), np.full(800, 0.75)], axis=1)
    soundfile.write(tmp_path / "deep" / "b.wav", stereo, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "a.flac", np.full(1600, 0.125), 16000)
    noises = load_noises(tmp_path, 16000)
    assert [len(noise) for noise in noises] == [1600, 1600]
    np.testing.assert_array_equal(noises[0], np.float32(0.125))
    assert abs(noises[1][400:1200] - 0.5).max() < 0.02
    assert len(load_noises([tmp_path / "a.flac"], 8000)[0]) == 800


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no noise"):
        load_noises(tmp_path, 16000)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    with pytest.raises(CorpusError, match="bad.wav"):
        load_noises(tmp_path, 16000)
    with pytest.raises(ConfigError, match="at least one"):
        NoiseAugment([], (0, 1), 0.5)
    with pytest.raises(ConfigError, match="snr"):
        NoiseAugment([_speech(5)], (2, 1), 0.5)
    with pytest.raises(ConfigError, match="1.5"):
        Gain(probability=1.5)
    with pytest.raises(ConfigError, match="time_masks"):
        SpecAugment(time_masks=-1)


@pytest.mark.parametrize("factor", [0.85, 0.93, 1.1, 1.2])
def test_a_warped_tone_is_a_tone_of_another_frequency(factor: float) -> None:
    front_end = FrontEnd(stack=1, stride=1, num_mels=80, mean_norm="none")
    warp = FrequencyWarp(0.2, front_end.band, 8000.0)

    def loudest(frequency: float, places: np.ndarray | None = None) -> int:
        tone = torch.sin(2 * torch.pi * frequency * torch.arange(16000) / 16000)
        spectrum = front_end(tone).mean(dim=0).numpy()
        return int(np.argmax(spectrum if places is None else np.interp(places, np.arange(80), spectrum)))

    for frequency in (500.0, 1000.0, 2500.0):
        assert abs(loudest(frequency * factor, warp.places(80, factor)) - loudest(frequency)) <= 1


@given(largest=st.floats(0.01, 0.4), seed=st.integers(0, 99), stack=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_frequency_warp_interpolates_each_stacked_frame(largest: float, seed: int, stack: int) -> None:
    front_end = FrontEnd(num_mels=20, stack=stack)
    warp = FrequencyWarp(largest, front_end.band, 8000.0)
    features = torch.from_numpy(np.random.default_rng(seed).standard_normal((7, 20 * stack)).astype(np.float32))
    warped = warp(features, np.random.default_rng(seed), stack=stack)
    factor = 1.0 + np.random.default_rng(seed).uniform(-largest, largest)
    places = warp.places(20, factor)
    assert (np.diff(places) >= 0).all() and places[0] >= 0 and places[-1] <= 19
    for frame, new in zip(features.view(-1, 20).numpy(), warped.view(-1, 20).numpy(), strict=True):
        np.testing.assert_allclose(new, np.interp(places, np.arange(20), frame), atol=1e-5)
    np.testing.assert_allclose(warp.places(20, 1.0), np.arange(20), atol=1e-9)


def test_augment_from_settings(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", _speech(), 16000)
    off = Augment.from_settings(FrontEnd(), AugmentConfig(noise=[str(tmp_path)]))
    assert off == Augment()
    on = Augment.from_settings(
        FrontEnd(), AugmentConfig(noise=[str(tmp_path)], noise_probability=0.5, gain_db=3.0, time_masks=1)
    )
    assert [type(transform) for transform in on.samples] == [NoiseAugment, Gain]
    assert [type(one) for one in on.features] == [SpecAugment]
    louder = Augment.from_settings(
        FrontEnd(), AugmentConfig(noise=[str(tmp_path)], noise_probability=0.5, gain_db=4.0, time_masks=1)
    )
    assert len({off.fingerprint, on.fingerprint, louder.fingerprint}) == 3
    twice = Augment.from_settings(FrontEnd(), AugmentConfig(time_masks=1, frequency_warp=0.1), two_views=True)
    assert [type(one) for one in twice.features] == [FrequencyWarp]
    assert [type(one) for one in twice.views] == [SpecAugment]
    once = Augment.from_settings(FrontEnd(), AugmentConfig(time_masks=1, frequency_warp=0.1))
    assert once.fingerprint != twice.fingerprint and not once.views
    with pytest.raises(ConfigError, match="no noise is named"):
        Augment.from_settings(FrontEnd(), AugmentConfig(noise_probability=0.5))


def _lag(clean: np.ndarray, changed: np.ndarray) -> int:
    """By how many samples a signal is late, from the cross-correlation."""
    size = 2 * len(clean)
    correlation = np.fft.irfft(np.fft.rfft(changed, size) * np.conj(np.fft.rfft(clean, size)))
    peak = int(np.argmax(correlation))
    return peak - size if peak > len(clean) else peak


def test_reverberation_is_a_convolution_that_stays_in_place() -> None:
    speech, response = _speech(3000), np.array([0, 0, 0.1, 1.0, 0, 0.5, 0, 0, -0.25], np.float32)
    wet = Reverb([response], 1.0)(speech, np.random.default_rng(0))
    expected = np.convolve(speech, response)[3 : 3 + len(speech)]
    expected *= np.sqrt(np.mean(speech**2) / np.mean(expected**2))
    np.testing.assert_allclose(wet, expected, atol=1e-6)
    assert _lag(speech, wet) == 0


def test_simulated_rooms_are_the_same_for_the_same_number() -> None:
    first, again = (Reverb.simulated(3, 8000, 1.0) for _ in range(2))
    assert first.fingerprint == again.fingerprint
    assert len({response.tobytes() for response in first.responses}) == 3
    speech = _speech(8000)
    wet = first(speech, np.random.default_rng(1))
    assert wet.shape == speech.shape and wet.dtype == np.float32
    assert _lag(speech, wet) == 0
    assert np.mean(wet**2) == pytest.approx(np.mean(speech**2), rel=1e-3)
    silence = np.zeros(50, np.float32)
    np.testing.assert_array_equal(first(silence, np.random.default_rng(1)), silence)


@pytest.mark.parametrize("sampling_rate", [8000, 16000])
@pytest.mark.parametrize("codec", CODECS)
def test_a_lossy_codec_changes_samples_and_delays_none(codec: str, sampling_rate: int) -> None:
    # Noise below 2 kHz, which every codec keeps.
    speech = np.convolve(_speech(12345), np.hanning(16) / 8, mode="same").astype(np.float32)
    coded = LossyCodec((codec,), sampling_rate, (0.5, 0.5), 1.0)(speech, np.random.default_rng(0))
    assert coded.shape == speech.shape and coded.dtype == np.float32
    assert not np.array_equal(coded, speech)
    assert _lag(speech, coded) == 0
    assert np.corrcoef(speech, coded)[0, 1] > 0.7


@given(frames=st.integers(0, 200), seed=st.integers(0, 99), factor=st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_a_time_warp_moves_features_and_frames_alike(frames: int, seed: int, factor: int) -> None:
    warp = TimeWarp(15, 1.0)
    places = warp.draw(frames, np.random.default_rng(seed))
    if places is None:
        assert frames < 4
        return
    assert places[0] == 0 and places[-1] == frames - 1
    assert (np.diff(places) > 0).all()
    # Features that say which frame they were.
    ramp = torch.arange(frames, dtype=torch.float32)[:, None]
    np.testing.assert_allclose(warp.features(ramp, places)[:, 0].numpy(), places, rtol=1e-5)
    outputs = -(-frames // factor)
    moved = warp.frames(places, factor, outputs)
    assert moved.min() >= 0 and moved.max() < outputs and (np.diff(moved) >= 0).all()
    assert moved.tolist() == [round(places[output * factor]) // factor for output in range(outputs)]


def test_a_time_warp_moves_something_by_no_more_than_asked() -> None:
    drawn = [TimeWarp(5, 1.0).draw(100, np.random.default_rng(seed)) for seed in range(50)]
    moved = [np.abs(places - np.arange(100)).max() for places in drawn if places is not None]
    assert len(moved) == 50 and max(moved) <= 5 and np.mean(moved) > 1


def test_other_speeds_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^augment.speed: .*\[0.9, 1.1\].*use time_warp.*perturb_speed"):
        Augment.from_settings(FrontEnd(), AugmentConfig(speed=[0.9, 1.1]))
    with pytest.raises(ConfigError, match="lossy codec 'amr'"):
        LossyCodec(("amr",), 16000)
    with pytest.raises(ConfigError, match="time_warp is -1"):
        TimeWarp(-1)
    with pytest.raises(ConfigError, match="impulse response"):
        Reverb([np.zeros(5, np.float32)])


def test_settings_for_reverberation_codecs_and_time() -> None:
    settings = AugmentConfig(reverb_probability=0.5, reverb_rooms=2, codec_probability=0.2, codecs=["gsm"], time_warp=7)
    augment = Augment.from_settings(FrontEnd(), settings)
    assert [type(one) for one in augment.samples] == [Reverb, LossyCodec]
    assert augment.time_warp == TimeWarp(7)
    others = [Augment.from_settings(FrontEnd(), AugmentConfig(time_warp=frames)) for frames in (0, 7, 8)]
    assert len({augment.fingerprint, *(one.fingerprint for one in others)}) == 4
