"""Headers against what files hold: all of the audio, or a refusal with both numbers."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import whole_recording
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lhotse import CutSet, Recording

from asrkd.corpus.audio import read_audio
from asrkd.corpus.headers import lengths
from asrkd.corpus.mpeg import MpegAudio
from asrkd.corpus.sound import open_sound
from asrkd.errors import CorpusError

RATE = 16000


def noise(seed: int, count: int, channels: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=(count, channels))).astype(np.float32)


def encoded(samples: np.ndarray, kind: str, rate: int = RATE, **options: object) -> bytes:
    stream = io.BytesIO()
    name, _, subtype = kind.partition("/")
    soundfile.write(stream, samples, rate, format=name, subtype=subtype or None, **options)
    return stream.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """(channels, samples) by libsndfile, as the oracle for files that are whole."""
    return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T


def put(data: bytes, at: int, packed: bytes) -> bytes:
    return data[:at] + packed + data[at + len(packed) :]


def with_declared(data: bytes, kind: str, count: int, channels: int) -> bytes:
    """The file with another number of samples in its header."""
    size = count * 2 * channels
    if kind.startswith("WAV"):
        return put(data, data.index(b"data") + 4, struct.pack("<I", size))
    if kind.startswith("AU"):
        return put(data, 8, struct.pack(">I", size))
    if kind.startswith("AIFF"):
        return put(data, data.index(b"COMM") + 10, struct.pack(">I", count))
    if kind.startswith("NIST"):
        line = re.search(rb"sample_count -i \d+\n", data)
        assert line is not None
        written = b"sample_count -i %d\n" % count
        # The header keeps its size.
        header = data[: line.start()] + written + data[line.end() : 1024].rstrip(b"\0")
        return header.ljust(1024, b"\0") + data[1024:]
    packed = int.from_bytes(data[18:26], "big") >> 36 << 36 | count
    return put(data, 18, packed.to_bytes(8, "big"))


def as_labeled(folder: Path, data: bytes, suffix: str) -> np.ndarray | str:
    """The samples that labeling would store of a file in a folder, or the reason why it does not."""
    file = folder / f"x{suffix}"
    file.write_bytes(data)
    recording = whole_recording(file, "x")
    if not isinstance(recording, Recording):
        return recording.reason
    try:
        return read_audio(recording.to_cut(), recording.sampling_rate)
    except CorpusError as error:
        return str(error)


SUFFIXES = {
    "WAV/PCM_16": ".wav",
    "AU/PCM_16": ".au",
    "AIFF/PCM_16": ".aiff",
    "NIST/PCM_16": ".sph",
    "FLAC/PCM_16": ".flac",
}


APE_TAG = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0xA0000000) + bytes(2008)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(SUFFIXES)),
    seed=st.integers(0, 1000),
    count=st.integers(100, 30000),
    channels=st.integers(1, 2),
    share=st.one_of(st.just(1.0), st.just(0.0), st.floats(0.0, 3.0)),
    kept=st.one_of(st.just(1.0), st.floats(0.05, 1.0)),
)
@example(kind="WAV/PCM_16", seed=0, count=100, channels=1, share=0.96875, kept=1.0)
def test_a_file_gives_all_of_its_audio_or_both_numbers(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, count: int, channels: int, share: float, kept: float
) -> None:
    if share not in (0.0, 1.0):
        kept = 1.0  # a file may be cut off where its header says that it ends
    data = encoded(noise(seed, count, channels), kind)
    whole = decoded(data).mean(axis=0)
    declared = round(count * share)
    data = with_declared(data, kind, declared, channels) if share != 1.0 else data
    data = data[: max(200, round(len(data) * kept))]
    found = as_labeled(tmp_path_factory.mktemp("sound"), data, SUFFIXES[kind])
    if isinstance(found, str):
        assert share != 1.0 or kept != 1.0, found
        assert re.search(r"\d+ samples|is damaged|cannot be read", found), found
        if kept == 1.0 and declared not in (0, count):
            assert str(declared) in found and str(count) in found, found
        return
    if share == 0.0 and kept < 1.0 and not kind.startswith("FLAC"):
        # Nothing declares how much there was.
        assert np.array_equal(found, whole[: len(found)])
        assert abs(len(found) - kept * count) <= 0.05 * count + 1100
        return
    if 0 < 2 * channels * (count - declared) < 8 and len(found) == declared:
        # What is left is less than a chunk's header: stray bytes at the end, as far as anyone can tell.
        whole = whole[:declared]
    assert np.array_equal(found, whole), (len(found), len(whole))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(3000, 60000),
    channels=st.integers(1, 2),
    rate=st.sampled_from([8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000]),
    mode=st.sampled_from(["CONSTANT", "AVERAGE", "VARIABLE"]),
    where=st.floats(0.0, 1.0),
    length=st.floats(0.01, 1.0),
)
def test_mp3_gives_any_stretch_to_the_sample(
    seed: int, count: int, channels: int, rate: int, mode: str, where: float, length: float
) -> None:
    samples = noise(seed, count, channels) * np.linspace(0, 3, count, dtype=np.float32)[:, None]
    data = encoded(samples, "MP3", rate, bitrate_mode=mode, compression_level=0.5)
    whole = decoded(data)
    audio = MpegAudio(data, "x")
    assert audio.num_samples == audio.declared == whole.shape[1] == count
    start = int(where * (count - 1))
    stop = start + max(1, int(length * (count - start)))
    assert np.abs(audio.read(start, stop - start) - whole[:, start:stop]).max() < 1e-5


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@example(
    seed=0, counts=[17440, 17254, 17004], tagged=True, lie=None, front=b"", behind=APE_TAG, kept=0.3341452780351575
).via("a header that was cut off behind its third byte")
@given(
    seed=st.integers(0, 1000),
    counts=st.lists(st.integers(15000, 40000), min_size=1, max_size=3),
    tagged=st.booleans(),
    lie=st.one_of(st.none(), st.integers(0, 100)),
    front=st.sampled_from([b"", b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256), b"\x00\xff\xfb junk"]),
    behind=st.sampled_from([b"", b"TAG" + bytes(125), APE_TAG]),
    kept=st.one_of(st.just(1.0), st.floats(0.3, 1.0)),
)
def test_mp3_of_any_making_gives_all_of_its_frames_or_both_numbers(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    counts: list[int],
    tagged: bool,
    lie: int | None,
    front: bytes,
    behind: bytes,
    kept: float,
) -> None:
    parts, pieces = [], []
    for number, count in enumerate(counts):
        samples = noise(seed + number, count)
        data = encoded(samples, "MP3", 44100, bitrate_mode="VARIABLE", compression_level=0.5)
        pieces.append(decoded(data)[0])
        at = data.index(b"Xing")
        if not tagged:
            data = data[data.index(b"\xff\xfb", 4) :]
        elif lie is not None:
            data = put(data, at + 8, struct.pack(">I", lie))
        parts.append(data)
    joined = b"".join(parts)
    joined = joined[: round(len(joined) * kept)]
    found = as_labeled(tmp_path_factory.mktemp("sound"), front + joined + behind, ".mp3")
    if isinstance(found, str):
        assert tagged and re.search(r"declares \d+ samples, but it holds \d+|holds no audio", found), found
        assert kept < 1.0 or lie is not None
        return
    expected = sum(counts)
    slack = 3000 * len(counts)
    assert kept * expected - slack - 0.2 * expected * (kept < 1.0) <= len(found) <= expected + slack
    if kept == 1.0:
        # The first piece's audio, from a place that the encoder's delay tells.
        delay = 0 if tagged else 1105
        first = pieces[0][:2000]
        assert np.abs(found[delay : delay + 2000] - first).max() < 1e-3


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["OGG/VORBIS", "OGG/OPUS"]),
    counts=st.lists(st.integers(2000, 40000), min_size=1, max_size=3),
    kept=st.one_of(st.just(1.0), st.floats(0.3, 0.99)),
    where=st.floats(0.0, 1.0),
)
def test_ogg_gives_all_of_its_streams_or_says_that_it_was_cut_off(
    tmp_path_factory: pytest.TempPathFactory, kind: str, counts: list[int], kept: float, where: float
) -> None:
    parts = [encoded(noise(number, count), kind) for number, count in enumerate(counts)]
    data = b"".join(parts)
    data = data[: round(len(data) * kept)]
    folder = tmp_path_factory.mktemp("sound")
    found = as_labeled(folder, data, ".ogg")
    if kept < 1.0:
        assert isinstance(found, str) and ("cut off" in found or "damaged" in found), found
        return
    whole = np.concatenate([decoded(part)[0] for part in parts])
    assert isinstance(found, np.ndarray) and np.abs(found - whole).max() < 1e-6
    start = int(where * (len(whole) - 1))
    assert np.abs(open_sound(folder / "x.ogg").read(start, len(whole) - start)[0] - whole[start:]).max() < 1e-4


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF, 0xFFFFFFFE])
def test_a_wav_from_a_pipe_is_read_whole(tmp_path: Path, size: int) -> None:
    data = encoded(noise(0, 5000), "WAV/PCM_16")
    found = as_labeled(tmp_path, put(data, data.index(b"data") + 4, struct.pack("<I", size)), ".wav")
    assert np.array_equal(found, decoded(data)[0])


def test_a_flac_from_a_pipe_is_read_whole(tmp_path: Path) -> None:
    data = encoded(noise(0, 50000), "FLAC/PCM_16")
    found = as_labeled(tmp_path, with_declared(data, "FLAC", 0, 1), ".flac")
    assert np.array_equal(found, decoded(data)[0])


# Frames hold 4,096 samples; the numbers of those from 128 and from 2,048 on are coded in one byte more.
@pytest.mark.parametrize("frames", [127, 128, 129, 160, 2047, 2048, 2049, 3000])
def test_the_frames_of_a_flac_are_counted_whatever_their_number(frames: int) -> None:
    count = 4096 * frames + 7
    samples = np.zeros((count, 1), np.int16)
    samples[-40 * 4096 :] = np.random.default_rng(frames).integers(-99, 99, (40 * 4096, 1))
    data = encoded(samples, "FLAC/PCM_16")
    whole = open_sound(data)
    assert (whole.num_samples, whole.fault) == (count, "")
    piped = open_sound(with_declared(data, "FLAC", 0, 1))
    assert (piped.num_samples, piped.fault) == (count, "")
    assert np.array_equal(piped.read(count - 9, 9), decoded(data)[:, -9:])
    cut_off = open_sound(data[: -len(data) // 10])
    assert f"declares {count} samples, but it holds" in cut_off.fault


def test_chunks_and_padding_behind_the_samples_are_not_samples(tmp_path: Path) -> None:
    data = encoded(noise(0, 5000), "WAV/PCM_16")
    chunk = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.29.100\0"
    for behind in (chunk, bytes(3000), chunk + bytes(100)):
        assert np.array_equal(as_labeled(tmp_path, data + behind, ".wav"), decoded(data)[0])


@pytest.mark.parametrize("kind", ["WAV/PCM_16", "FLAC/PCM_16", "AU/PCM_16"])
def test_files_that_were_joined_are_refused_with_both_numbers(tmp_path: Path, kind: str) -> None:
    data = encoded(noise(0, 5000), kind)
    reason = as_labeled(tmp_path, data + data, SUFFIXES[kind])
    assert isinstance(reason, str)
    assert "declares 5000 samples, but it holds 100" in reason or "cannot be read" in reason


@pytest.mark.parametrize(
    "kind",
    ["WAV/PCM_U8", "WAV/PCM_24", "WAV/PCM_32", "WAV/DOUBLE", "WAV/ULAW", "WAV/ALAW", "WAV/IMA_ADPCM", "WAV/MS_ADPCM", "WAV/GSM610",
     "WAVEX/PCM_16", "RF64/PCM_16", "W64/PCM_16", "CAF/PCM_16", "CAF/ALAC_16", "AIFF/FLOAT", "AIFF/ULAW", "AU/ULAW", "AU/PCM_24",
     "VOC/PCM_16", "FLAC/PCM_24", "OGG/OPUS", "OGG/VORBIS", "AVR/PCM_16", "PVF/PCM_16", "PAF/PCM_16", "IRCAM/PCM_16", "NIST/ULAW"],
)  # fmt: skip
def test_every_kind_that_is_whole_is_read_whole(tmp_path: Path, kind: str) -> None:
    for count in (4999, 12345):
        data = encoded(noise(0, count), kind)
        found = as_labeled(tmp_path, data, "." + kind.split("/")[0].lower())
        assert isinstance(found, np.ndarray), found
        assert np.abs(found - decoded(data)[0]).max() < 1e-6


@pytest.mark.parametrize(
    "kind", ["W64/PCM_16", "VOC/PCM_16", "RF64/PCM_16", "WAV/IMA_ADPCM", "WAV/GSM610", "AIFF/FLOAT", "CAF/PCM_16"]
)
def test_every_kind_that_was_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    data = encoded(noise(0, 20000), kind)
    reason = as_labeled(tmp_path, data[: len(data) // 2], "." + kind.split("/")[0].lower())
    assert isinstance(reason, str) and re.search("cut off|not whole|cannot be read", reason), reason


def test_a_cut_within_a_file_that_was_cut_off_is_read(tmp_path: Path) -> None:
    data = encoded(noise(0, 16000), "WAV/PCM_16")
    (tmp_path / "x.wav").write_bytes(data[: len(data) // 2])
    recording = whole_recording(tmp_path / "x.wav", "x")
    assert isinstance(recording, Recording)
    inside = recording.to_cut().truncate(duration=0.2)
    assert np.array_equal(read_audio(inside, RATE), decoded(data)[0, :3200])
    with pytest.raises(CorpusError, match="declares 16000 samples, but it holds 79"):
        read_audio(recording.to_cut(), RATE)


def test_a_manifest_of_another_length_is_refused_with_both_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(encoded(noise(0, 16000), "WAV/PCM_16"))
    recording = whole_recording(tmp_path / "x.wav", "x")
    assert isinstance(recording, Recording)
    for count in (12000, 19000, 90000):
        wrong = Recording("x", recording.sources, RATE, count, count / RATE)
        with pytest.raises(CorpusError, match=f"says {count} samples .* holds 16000"):
            read_audio(wrong.to_cut(), RATE)
        # lhotse's own transforms do not hide it.
        with pytest.raises(CorpusError, match="holds 16000"):
            read_audio(wrong.to_cut().perturb_speed(1.1), RATE)
    assert len(read_audio(recording.to_cut().perturb_speed(1.1), RATE)) == 14545
    other = Recording("x", recording.sources, 8000, 16000, 2.0)
    with pytest.raises(CorpusError, match="16000 Hz, but its recording 'x' says 8000 Hz"):
        read_audio(other.to_cut(), RATE)


def test_lengths_of_what_is_no_audio() -> None:
    for data in (
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"fLaC",
        b".snd",
        b"NIST_1A\n   1024\n",
        b"FORM\0\0\0\0AIFF",
        bytes(5000),
    ):
        assert lengths(data) is None


def test_shar_is_checked_as_files_are(tmp_path: Path) -> None:
    samples = noise(0, 16000)
    (tmp_path / "x.flac").write_bytes(encoded(samples, "FLAC/PCM_16"))
    recording = whole_recording(tmp_path / "x.flac", "x")
    assert isinstance(recording, Recording)
    (tmp_path / "shar").mkdir()
    CutSet.from_cuts([recording.to_cut()]).to_shar(tmp_path / "shar", fields={"recording": "flac"})
    (cut,) = CutSet.from_shar(in_dir=tmp_path / "shar")
    assert np.array_equal(read_audio(cut, RATE), read_audio(recording.to_cut(), RATE))


@pytest.mark.parametrize("suffix", ["au", "snd", "AU"])
@pytest.mark.parametrize("data", [bytes(4000), np.random.default_rng(0).bytes(4000), b"this is a text\n" * 99])
def test_a_file_without_a_header_is_not_taken_for_audio_by_its_suffix(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match="has no header of a format that libsndfile knows"):
        open_sound(path)
    path.write_bytes(encoded(noise(0, 1000), "AU"))
    assert open_sound(path).num_samples == 1000
