"""What a row embeds: exact where it says so, within its error elsewhere, the same bytes for the same utterance."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from asrkd.corpus import ogg
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.waveform import Waveform
from asrkd.errors import AsrkdError, ConfigError, MismatchError, StoreError
from asrkd.store import Identity
from asrkd.store.embedding import Embedding, decode_audio, parse_embedding

RATE = 16000


def speechlike(count: int, seed: int = 0, rate: int = RATE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    slow = np.convolve(rng.standard_normal(count + 200), np.hanning(25), mode="same")[:count]
    return (slow * (1 + np.sin(np.arange(count) / rate * 20)) * 1500).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize("spec", ["none", "audio", "opus:6", "opus:24", "opus:256", "features", "features:8bit"])
def test_a_spec_names_itself(spec: str) -> None:
    assert parse_embedding(spec).spec == spec
    assert Identity(embed=spec).embedding.spec == spec
    assert Identity.from_dict(Identity(embed=spec).to_dict(), ()).embed == spec


@given(
    st.builds(
        "{}{}".format,
        st.sampled_from(["", "opus", "opus:", "features:", "audio:"]),
        st.text("0159.+_ b\n²٣", max_size=4),
    )
)
def test_anything_else_is_refused_by_its_name(spec: str) -> None:
    try:
        assert parse_embedding(spec).spec == spec
    except ConfigError as error:
        assert repr(spec) in str(error) and "opus:KBPS" in str(error)


@pytest.mark.parametrize("rate", [8000, 12000, 16000, 24000, 48000])
@pytest.mark.parametrize("kbps", [6, 24, 128])
def test_opus_keeps_length_and_place_and_is_the_same_each_time(rate: int, kbps: int) -> None:
    front_end = FrontEnd(sampling_rate=rate)
    embedding = parse_embedding(f"opus:{kbps}")
    embedding.check(front_end)
    samples = speechlike(int(1.7 * rate) + 13, rate=rate)
    none = np.zeros((0, 0), np.float32)
    stored = embedding.columns("a", samples, none, front_end)["audio"]
    assert stored["path"] == "a.opus"
    assert embedding.columns("a", samples, none, front_end)["audio"] == stored
    decoded = decode_audio(stored, rate, True, "it")
    assert decoded.dtype == np.float32 and len(decoded) == len(samples)
    clean = samples / 32768
    correlation = [np.corrcoef(np.roll(clean, lag), decoded)[0, 1] for lag in range(-20, 21)]
    # At the lowest bit rates speech is resampled to 8 kHz on the way, which moves it by a sample of that.
    assert abs(int(np.argmax(correlation)) - 20) <= 1 + rate // 8000
    # A second and more, so that the headers do not count for much; the bit rate is a target, not a bound.
    assert len(stored["bytes"]) * 8 / (len(samples) / rate) < 1.5 * kbps * 1000 + 6000


def test_opus_of_any_length_has_that_length() -> None:
    for count in (1, 2, 159, 320, 400, 961):
        audio = parse_embedding("opus:16").columns("a", speechlike(count), np.zeros((0, 0), np.float32), FrontEnd())
        assert len(decode_audio(audio["audio"], RATE, False, "it")) == count


def test_opus_refuses_a_rate_that_it_does_not_know_and_features_a_waveform() -> None:
    with pytest.raises(ConfigError, match="Opus takes 8000, .* and the front end has 11025 Hz"):
        Identity(embed="opus:24", front_end=FrontEnd(sampling_rate=11025))
    with pytest.raises(ConfigError, match="reads samples, so there are no features to embed"):
        Identity(embed="features:8bit", front_end=Waveform(16000, 400, 320))


def test_a_serial_number_is_all_that_changes() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, speechlike(40_000), RATE, format="OGG", subtype="VORBIS")
    data = buffer.getvalue()
    serial = int.from_bytes(data[14:18], "little")
    other = ogg.with_serial(data, serial ^ 0x5A5A5A5A)
    assert other != data
    # libogg checks the checksums of both.
    assert ogg.with_serial(other, serial) == data
    assert np.array_equal(soundfile.read(io.BytesIO(other))[0], soundfile.read(io.BytesIO(data))[0])
    with pytest.raises(ValueError, match="no page of Ogg at byte 0"):
        ogg.with_serial(b"RIFF", 0)


mels = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 20), st.just(12)), elements=st.floats(-30, 30, width=32) | st.just(-15.942385)
)


@given(mels, st.sampled_from([1, 2, 3]))
def test_8_bit_values_are_within_half_a_step(values: np.ndarray, stack: int) -> None:
    front_end = FrontEnd(num_mels=12 // stack, stack=stack, stride=stack)
    law = front_end.frame_law()
    samples = law.window + (len(values) * stack - 1) * law.shift
    embedding = Embedding("features", eight_bit=True)
    row = embedding.columns("a", np.zeros(samples, np.int16), values, front_end)
    found = embedding.features(row["features"], samples, front_end, "it")
    assert found.shape == values.shape and found.dtype == np.float32
    bins = values.reshape(-1, front_end.num_mels)
    half = (bins.max(axis=0) - bins.min(axis=0)) / 510
    assert (np.abs(found.reshape(bins.shape) - bins) <= half * 1.001 + 1e-5).all()
    for damaged in (row["features"][:-1], row["features"] + b"\0", b"", None):
        with pytest.raises(MismatchError, match="bytes of features"):
            embedding.features(damaged, samples, front_end, "it")


def test_exact_ones_are_exact() -> None:
    samples, front_end = speechlike(20_000), FrontEnd()
    features = front_end(torch.from_numpy(samples.astype(np.float32) / 32768)).numpy()
    audio = parse_embedding("audio").columns("a", samples, features, front_end)
    assert np.array_equal(decode_audio(audio["audio"], RATE, True, "it"), samples)
    row = parse_embedding("features").columns("a", samples, features, front_end)
    assert np.array_equal(parse_embedding("features").features(row["features"], 20_000, front_end, "it"), features)
    assert parse_embedding("none").columns("a", samples, features, front_end) == {}


@given(st.integers(0, 2**31), st.integers(1, 40))
def test_damaged_opus_is_an_error_or_audio(seed: int, flips: int) -> None:
    audio = parse_embedding("opus:12").columns("a", speechlike(5000), np.zeros((0, 0), np.float32), FrontEnd())["audio"]
    rng, data = np.random.default_rng(seed), bytearray(audio["bytes"])
    for at in rng.integers(len(data), size=flips):
        data[at] ^= 1 << int(rng.integers(8))
    try:
        decode_audio({"bytes": bytes(data)}, RATE, False, "it")
    except AsrkdError as error:
        assert isinstance(error, (StoreError, MismatchError))
