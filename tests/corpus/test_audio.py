"""Times, channels, peaks, silence: the audio that a row names is the audio that is stored."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from click.testing import CliRunner
from helpers import whole_recording
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet, MonoCut, MultiCut, Recording, SupervisionSegment

from asrkd.cli import cli
from asrkd.corpus.audio import read_audio, wrong_times
from asrkd.corpus.cuts import iterate_json
from asrkd.errors import CorpusError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.labeling.status import status
from asrkd.store import Store
from asrkd.store.files import Files
from asrkd.store.plan import read_cuts

RATE = 16000


def rows_of(root: Path) -> list[dict[str, Any]]:
    return [row for shard in sorted(root.glob("shards/*.parquet")) for row in pq.read_table(shard).to_pylist()]


def stored(corpus: Path, root: Path, **options: object) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """16-bit samples by id, and the reasons of those that are in quarantine."""
    plan(str(corpus), str(root), embed="audio", **options)
    run(Local(Store.open(str(root))), max_quarantined=1)
    rows = rows_of(root)
    samples = {row["id"]: soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")[0] for row in rows}
    return samples, dict(status(Store.open(str(root))).quarantine)


def wav(path: Path, samples: np.ndarray, subtype: str = "PCM_16", rate: int = RATE) -> np.ndarray:
    soundfile.write(path, samples, rate, subtype=subtype)
    return soundfile.read(path, dtype="int16")[0]


def noise(seconds: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=(int(seconds * RATE), channels)).squeeze()


def test_the_times_of_a_row_are_those_of_its_audio(tmp_path: Path) -> None:
    whole = wav(tmp_path / "x.wav", noise(3.0))
    rows = {
        "all": ("", ""), "tail": ("1.5", ""), "part": ("0.25", "1"), "exact": ("2.999", "0.001"), "rounded": ("1", "2.0004"),
        "exponent": ("1e0", ".5"),
        "negative": ("-0.5", "0.7"), "nan": ("nan", "0.5"), "inf": ("0", "inf"), "minus": ("0", "-1"), "zero": ("0", "0"),
        "behind": ("3", ""), "beyond": ("2", "1.01"), "milliseconds": ("1500", "500"), "startinf": ("-inf", ""),
    }  # fmt: skip
    lines = [f"x.wav\t{key}\t{start}\t{duration}" for key, (start, duration) in rows.items()]
    (tmp_path / "t.tsv").write_text("audio\tid\tstart\tduration\n" + "\n".join(lines) + "\n")
    samples, reasons = stored(tmp_path / "t.tsv", tmp_path / "store")
    expected = {
        "all": whole, "tail": whole[24000:], "part": whole[4000:20000], "rounded": whole[16000:], "exponent": whole[16000:24000]
    }  # fmt: skip
    assert sorted(samples) == sorted(expected)
    for key, values in expected.items():
        assert np.array_equal(samples[key], values), key
    assert reasons.pop("exact").startswith("cut 'exact' has 16 samples, too few")
    for key, words in {
        "negative": "line 8 starts at -0.5 s",
        "nan": "line 9 starts at nan s",
        "inf": "line 10 has the duration inf s",
        "minus": "line 11 has the duration -1.0 s",
        "zero": "line 12 has the duration 0.0 s",
        "behind": "line 13 starts at 3 s, but its recording is 3.000 s long",
        "beyond": "line 14 reaches from 2 to 3.01 s, but its recording is 3.000 s long",
        "milliseconds": "line 15 reaches from 1500 to 2000 s, but its recording is 3.000 s long; correct its times, or are its",
        "startinf": "line 16 starts at -inf s",
    }.items():
        assert words in reasons.pop(key), key
    assert not reasons


@pytest.mark.parametrize("column", ["start", "duration"])
@pytest.mark.parametrize("value", ["0,5", "1_0", "half", "0x1", "٣", "1s", "1:30", "--1"])
def test_a_time_that_is_no_number_is_an_error_with_its_line(tmp_path: Path, column: str, value: str) -> None:
    wav(tmp_path / "x.wav", noise(1.0))
    (tmp_path / "t.tsv").write_text(f"audio\t{column}\nx.wav\t0.5\nx.wav\t{value}\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=f"line 3: {column} is '{value}', but must be a number of seconds"):
        list(iterate_json(tmp_path / "t.tsv"))


number = st.one_of(st.floats(), st.floats(-4, 4), st.integers(-10, 10))


@given(start=number, duration=number, length=st.floats(0.01, 10))
def test_times_are_right_just_where_the_stretch_lies_within(start: float, duration: float, length: float) -> None:
    inside = math.isfinite(start) and math.isfinite(duration) and start >= 0 and duration > 0
    inside = inside and start + duration <= length + 0.001
    assert (wrong_times(start, duration, length) is None) == inside


def test_times_of_a_manifest_that_are_no_times_go_to_quarantine(tmp_path: Path) -> None:
    wav(tmp_path / "x.wav", noise(1.0))
    recording = whole_recording(tmp_path / "x.wav", "x")
    assert isinstance(recording, Recording)
    lines = []
    for key, (start, duration) in {
        "good": (0.25, 0.5), "negative": (-0.5, 0.7), "nan": (math.nan, 0.5), "inf": (0, math.inf), "beyond": (0.5, 0.6), "text": ("0", 1.0)
    }.items():  # fmt: skip
        cut = MonoCut(key, 0.0, 1.0, 0, recording=recording).to_dict() | {"start": start, "duration": duration}
        lines.append(json.dumps(cut))
    (tmp_path / "m.jsonl").write_text("\n".join(lines) + "\n")
    samples, reasons = stored(tmp_path / "m.jsonl", tmp_path / "store")
    assert list(samples) == ["good"] and len(samples["good"]) == 8000
    assert "starts at -0.5 s" in reasons["negative"] and "starts at nan s" in reasons["nan"]
    assert "the start '0'" in reasons["text"]
    assert "the duration inf s" in reasons["inf"] and "reaches from 0.5 to 1.1 s" in reasons["beyond"]


def test_channels_are_averaged_in_folders_tables_and_manifests(tmp_path: Path) -> None:
    both = noise(1.0, 2)
    (tmp_path / "f").mkdir()
    values = wav(tmp_path / "f/x.wav", both).astype(np.float64)
    (tmp_path / "t.tsv").write_text("audio\tid\ttext\nf/x.wav\tx\thello\n")
    recording = whole_recording(tmp_path / "f/x.wav", "x")
    assert isinstance(recording, Recording)
    CutSet.from_cuts([recording.to_cut()]).to_file(tmp_path / "m.jsonl")
    for channel, expected in ((None, values.mean(axis=1)), (0, values[:, 0]), (1, values[:, 1])):
        found = [
            stored(tmp_path / name, tmp_path / f"store-{name}-{channel}", channel=channel)[0]["x"]
            for name in ("f", "t.tsv", "m.jsonl")
        ]
        assert all(np.array_equal(found[0], one) for one in found)
        assert np.abs(found[0] - expected).max() <= 0.5


def test_a_row_chooses_its_channel(tmp_path: Path) -> None:
    values = wav(tmp_path / "x.wav", noise(1.0, 2))
    lines = ["x.wav\tleft\t0", "x.wav\tright\t1", "x.wav\tboth\t", "x.wav\tmean\tmean", "x.wav\tthird\t2"]
    (tmp_path / "t.tsv").write_text("audio\tid\tchannel\n" + "\n".join(lines) + "\n")
    samples, reasons = stored(tmp_path / "t.tsv", tmp_path / "store")
    assert np.array_equal(samples["left"], values[:, 0]) and np.array_equal(samples["right"], values[:, 1])
    assert np.array_equal(samples["both"], samples["mean"]) and len(samples) == 4
    assert "line 6: channel 2 was chosen, but the recording has 0, 1" in reasons["third"]
    (tmp_path / "t.tsv").write_text("audio\tchannel\nx.wav\tleft\n")
    with pytest.raises(CorpusError, match="line 2: channel is 'left', but must be a number"):
        list(iterate_json(tmp_path / "t.tsv"))


def test_a_manifests_own_choice_of_channel_is_kept_and_supervisions_go_with_theirs(tmp_path: Path) -> None:
    values = wav(tmp_path / "x.wav", noise(1.0, 2))
    recording = whole_recording(tmp_path / "x.wav", "x")
    assert isinstance(recording, Recording)
    said = [SupervisionSegment(f"s{c}", "x", 0.0, 1.0, channel=c, text=f"said on {c}") for c in (0, 1)]
    CutSet.from_cuts(
        [
            MonoCut("mono", 0.0, 1.0, 1, recording=recording),
            MultiCut("multi", 0.0, 1.0, [0, 1], supervisions=said, recording=recording),
        ]
    ).to_file(tmp_path / "m.jsonl")
    samples, reasons = stored(tmp_path / "m.jsonl", tmp_path / "store", channel=0)
    assert np.array_equal(samples["mono"], values[:, 1]) and np.array_equal(samples["multi"], values[:, 0])
    assert {row["id"]: row["text"] for row in rows_of(tmp_path / "store")} == {
        "mono": None,
        "multi": "said on 0",
    } and not reasons


def test_channel_at_the_command_line(tmp_path: Path) -> None:
    wav(tmp_path / "x.wav", noise(1.0, 2))
    (tmp_path / "t.tsv").write_text("audio\nx.wav\n")
    corpus, runner = str(tmp_path / "t.tsv"), CliRunner()
    wrong = runner.invoke(cli, ["label", "plan", corpus, str(tmp_path / "a"), "--channel", "left"])
    assert wrong.exit_code == 2 and "'left' is neither 'mean' nor a channel's number" in wrong.output
    assert runner.invoke(cli, ["label", "plan", corpus, str(tmp_path / "b"), "--channel", "1"]).exit_code == 0
    (cut,) = read_cuts(Files(str(tmp_path / "b")), 0)
    assert cut["type"] == "MonoCut" and cut["channel"] == 1


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_channels_that_cancel_are_refused(tmp_path: Path, error: float) -> None:
    left = noise(1.0)
    wav(tmp_path / "x.wav", np.stack([left, -left * (1 - error)], axis=1))
    recording = whole_recording(tmp_path / "x.wav", "x")
    assert isinstance(recording, Recording)
    with pytest.raises(CorpusError, match="2 channels that cancel each other .*--channel 0"):
        read_audio(recording.to_cut(), RATE)
    assert len(read_audio(MonoCut("x", 0.0, 1.0, 0, recording=recording), RATE)) == RATE


def test_channels_that_do_not_cancel_are_averaged(tmp_path: Path) -> None:
    left, right = noise(1.0), noise(1.0, seed=1)
    for other in (right, 0 * left, left, -0.5 * left + right, np.zeros(RATE)):
        wav(tmp_path / "x.wav", np.stack([left, other], axis=1))
        recording = whole_recording(tmp_path / "x.wav", "x")
        assert isinstance(recording, Recording) and len(read_audio(recording.to_cut(), RATE)) == RATE


def test_samples_beyond_full_scale(tmp_path: Path) -> None:
    tone = np.sin(np.arange(RATE) * 0.1)
    (tmp_path / "f").mkdir()
    for name, peak in (("quiet", 0.5), ("over", 1.5), ("int16", 9000.0), ("int32", 2e9), ("three", 3.0)):
        soundfile.write(tmp_path / f"f/{name}.wav", (peak * tone).astype(np.float32), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "f/double.wav", 700.0 * tone, RATE, subtype="DOUBLE")
    soundfile.write(tmp_path / "f/nan.wav", np.where(np.arange(RATE) == 5, np.nan, tone), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "f/inf.wav", np.where(np.arange(RATE) == 5, np.inf, tone), RATE, subtype="FLOAT")
    samples, reasons = stored(tmp_path / "f", tmp_path / "store")
    assert sorted(samples) == ["over", "quiet"]
    assert np.abs(samples["over"] - np.clip(1.5 * tone * 32768, -32768, 32767)).max() <= 1
    assert "samples of up to 9000, but audio in floating point lies within -1..1" in reasons["int16"]
    assert sorted(reasons) == ["double", "inf", "int16", "int32", "nan", "three"]
    assert "NaN or infinite" in reasons["nan"] and "NaN or infinite" in reasons["inf"]


def test_digital_silence_goes_to_quarantine(tmp_path: Path) -> None:
    speech = noise(1.0)
    silence = np.zeros(RATE)
    (tmp_path / "f").mkdir()
    for name, samples in {
        "silence": silence, "constant": silence + 0.25, "stereo": np.stack([silence, silence], axis=1),
        "around": np.concatenate([silence, speech, silence]), "faint": np.where(np.arange(RATE) % 2, 1 / 32768, 0.0),
    }.items():  # fmt: skip
        wav(tmp_path / f"f/{name}.wav", samples)
    found, reasons = stored(tmp_path / "f", tmp_path / "store")
    assert sorted(found) == ["around", "faint"] and len(found["around"]) == 3 * RATE
    assert "digital silence: all of its 16000 samples are 0" in reasons["silence"]
    assert "digital silence: all of its 16000 samples are 8192" in reasons["constant"]
    assert "digital silence" in reasons["stereo"]


@settings(max_examples=25, deadline=None)
@given(
    suffix=st.sampled_from([".mp3", ".ogg", ".opus", ".flac", ".wav"]),
    start=st.floats(0.0, 1.5),
    length=st.floats(0.05, 0.5),
)
def test_a_stretch_is_that_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, start: float, length: float
) -> None:
    file = tmp_path_factory.mktemp("audio") / f"x{suffix}"
    options = {".mp3": {"format": "MP3", "bitrate_mode": "VARIABLE"}, ".opus": {"format": "OGG", "subtype": "OPUS"}}
    soundfile.write(file, noise(2.0), RATE, **options.get(suffix, {}))
    recording = whole_recording(file, "x")
    assert isinstance(recording, Recording)
    whole = soundfile.read(file, dtype="float32")[0]
    cut = recording.to_cut().truncate(offset=start, duration=length)
    first = round(start * RATE)
    found = read_audio(cut, RATE)
    assert abs(len(found) - length * RATE) <= 1
    # Rounding of a time may move it by one sample.
    assert min(np.abs(found - whole[at : at + len(found)]).max() for at in range(max(0, first - 1), first + 2)) < 1e-4
