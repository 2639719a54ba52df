"""A corpus segmented: sentences of a voice between silence and noise; processes killed; wrong inputs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import soundfile

from asrkd.corpus.cuts import iterate_json, open_cuts
from asrkd.errors import AsrkdError, ConfigError, CorpusError
from asrkd.segmentation import run
from asrkd.segmentation.run import SegmentTally, report_file, segment_corpus
from asrkd.segmentation.settings import SegmentSettings, WindowSettings
from asrkd_recipes.demo.espeak import synthesize

SENTENCES = (
    "the quick brown fox jumps over the lazy dog",
    "she sells sea shells by the sea shore",
    "how are you today",
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five recordings at several rates, and a broken one; `truth.json` says from where to where there is speech."""
    folder = tmp_path_factory.mktemp("recordings")
    generator = np.random.default_rng(0)
    truth: dict[str, list[tuple[float, float]]] = {}
    for number in range(5):
        parts, at, spoken = [], 0.0, []
        for sentence in SENTENCES:
            pause = float(generator.uniform(1.5, 4.0))
            samples, rate = synthesize(sentence, "en-us", pitch=20 + 15 * number)
            speech = samples.astype(np.float32) / 65536
            loud = np.flatnonzero(np.abs(speech) > 0.01)
            parts += [np.zeros(round(pause * rate), np.float32), speech]
            spoken.append((at + pause + loud[0] / rate, at + pause + loud[-1] / rate))
            at += pause + len(speech) / rate
        audio = np.concatenate([*parts, np.zeros(2 * rate, np.float32)])
        audio += (0.001 * generator.standard_normal(len(audio))).astype(np.float32)
        name = f"{number}.wav" if number % 2 else f"{number}.flac"
        soundfile.write(folder / name, audio, rate)
        truth[str(number)] = spoken
    (folder / "broken.flac").write_bytes(b"fLaC" + bytes(100))
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


def times_of(manifest: Path) -> dict[str, list[tuple[float, float]]]:
    times: dict[str, list[tuple[float, float]]] = {}
    for cut in iterate_json(manifest):
        times.setdefault(cut["recording"]["id"], []).append((cut["start"], cut["start"] + cut["duration"]))
    return times


def report_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in report_file(out).read_text().splitlines()]


@pytest.mark.parametrize("vad", ["silero", "energy"])
def test_speech_is_kept_and_silence_is_not(recordings: Path, tmp_path: Path, vad: str) -> None:
    out = tmp_path / "segments.jsonl"
    tally = segment_corpus(recordings, out, SegmentSettings(vad, merge=0.5))
    times = times_of(out)
    for name, spoken in json.loads((recordings / "truth.json").read_text()).items():
        found = next(times[key] for key in times if key.split(".")[0] == name)
        for begin, end in spoken:
            assert sum(max(0.0, min(end, b) - max(begin, a)) for a, b in found) > 0.97 * (end - begin)
        kept, speech = sum(b - a for a, b in found), sum(b - a for a, b in spoken)
        assert kept < speech + 2 * 0.25 * len(spoken) + 0.5
    assert (tally.cuts, tally.unreadable) == (6, 1) and tally.segments == sum(map(len, times.values()))
    header, *lines = report_of(out)
    assert header["settings"]["vad"] == vad and len(lines) == 6
    (broken,) = (line for line in lines if "unreadable" in line)
    assert "broken" in broken["id"] and "damaged" in broken["unreadable"]
    assert not list(tmp_path.glob("*.unfinished"))


def test_segments_are_cuts_that_can_be_read(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "segments.jsonl.gz"
    settings = SegmentSettings("energy", max_seconds=3.0)
    segment_corpus(recordings, out, settings)
    cuts = list(open_cuts(out))
    assert len({cut.id for cut in cuts}) == len(cuts) > 10
    for cut in cuts:
        assert cut.duration <= 3.0 and len(cut.load_audio()[0]) == cut.num_samples
        assert settings.fingerprint[:8] in cut.id and cut.custom["segmented_from"] in cut.id


def test_without_a_detector_all_audio_is_kept(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "segments.jsonl"
    tally = segment_corpus(recordings, out, SegmentSettings("none", max_seconds=5.0))
    assert abs(tally.kept_seconds - tally.seconds) < 1e-3 and tally.segments > 10
    for found in times_of(out).values():
        assert found[0][0] == 0.0 and all(abs(b - a) < 1e-3 for (_, b), (a, _) in zip(found, found[1:], strict=False))


def test_supervisions_within_a_segment_are_kept(recordings: Path, tmp_path: Path) -> None:
    cut = next(iterate_json(recordings))
    spoken = json.loads((recordings / "truth.json").read_text())["0"]
    cut["supervisions"] = [
        {"id": "s", "recording_id": cut["recording"]["id"], "start": begin, "duration": end - begin, "text": text}
        for (begin, end), text in zip(spoken, SENTENCES, strict=True)
    ]
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut) + "\n")
    segment_corpus(tmp_path / "cuts.jsonl", tmp_path / "out.jsonl", SegmentSettings("energy", merge=0.5))
    texts = [" ".join(one.text for one in part.supervisions) for part in open_cuts(tmp_path / "out.jsonl")]
    assert [text for text in texts if text] == list(SENTENCES)


@pytest.mark.parametrize(
    "settings", [SegmentSettings("energy"), SegmentSettings("none", max_seconds=2.0), WindowSettings(5.0, 2.0)]
)
def test_a_run_that_stopped_resumes_and_its_file_holds_times_not_cuts(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: SegmentSettings | WindowSettings
) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    tally = segment_corpus(recordings, whole, settings)
    parts = list(iterate_json(whole))
    assert tally.segments == len(parts) > 10
    owned = [part["custom"].get("window_owns") or (0.0, None) for part in parts]
    kept = sum((part["duration"] if to is None else to) - begin for part, (begin, to) in zip(parts, owned, strict=True))
    assert abs(tally.kept_seconds - kept) < 0.01
    append = run._append

    def stop_after_three(journal: IO[bytes], line: dict) -> None:
        if journal.tell() and Path(journal.name).read_bytes().count(b"\n") == 4:
            journal.write(b'{"cut": {"id": "torn')
            raise KeyboardInterrupt
        append(journal, line)

    monkeypatch.setattr(run, "_append", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        segment_corpus(recordings, out, settings)
    monkeypatch.setattr(run, "_append", append)
    *_, last, _ = Path(f"{out}.unfinished").read_bytes().splitlines()
    assert len(json.loads(last)["times"]) > 1
    assert len(last) < len(json.dumps(parts[0])) + 30 * len(json.loads(last)["times"])
    segment_corpus(recordings, out, settings)
    for suffix in (".jsonl", ".report.jsonl"):
        assert (tmp_path / f"stopped{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert not Path(f"{out}.unfinished").exists()
    (tmp_path / "old.jsonl.unfinished").write_text(json.dumps({"settings": report_of(whole)[0]["settings"]}) + "\n")
    with pytest.raises(AsrkdError, match="begun by another version of asrkd; delete it"):
        segment_corpus(recordings, tmp_path / "old.jsonl", settings)


@pytest.mark.slow
def test_killed_and_run_again_or_with_more_processes_the_files_are_the_same(
    recordings: Path, tmp_path: Path, asrkd_command: Callable[..., list[str]]
) -> None:
    segment_corpus(recordings, tmp_path / "whole.jsonl.gz", SegmentSettings("energy"))
    out = tmp_path / "killed.jsonl.gz"
    unfinished = Path(f"{out}.unfinished")
    command = asrkd_command("segment", recordings, out, "--vad", "energy", "--workers", 2)
    running = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while running.poll() is None and not (unfinished.is_file() and unfinished.read_bytes().count(b"\n") > 2):
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    if unfinished.is_file():
        with open(unfinished, "ab") as journal:
            journal.write(b'{"cut": "torn')
    subprocess.run(command, check=True, capture_output=True)
    assert out.read_bytes() == (tmp_path / "whole.jsonl.gz").read_bytes()
    assert report_of(out) == report_of(tmp_path / "whole.jsonl.gz")
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "6 cuts" in again.stdout and "1 cuts could not be segmented" in again.stderr


def test_wrong_inputs(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(AsrkdError, match="written as .jsonl or .jsonl.gz"):
        segment_corpus(recordings, tmp_path / "out.tsv", SegmentSettings())
    segment_corpus(recordings, out, SegmentSettings("energy"))
    with pytest.raises(AsrkdError, match="with merge 0.3, not 0.5; delete it"):
        segment_corpus(recordings, out, SegmentSettings("energy", merge=0.5))
    report_file(out).write_text("[]\n")
    with pytest.raises(AsrkdError, match="was not written by a segmentation"):
        segment_corpus(recordings, out, SegmentSettings("energy"))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.flac").write_bytes(b"fLaC" + bytes(100))
    with pytest.raises(CorpusError, match="no cut of .* can be segmented; the first one: .*damaged"):
        segment_corpus(broken, tmp_path / "none.jsonl", SegmentSettings("energy"))
    assert not list(tmp_path.glob("none*"))
    # Fixed, it is read again.
    soundfile.write(broken / "a.flac", 0.1 * np.random.default_rng(0).standard_normal(48_000), 16_000)
    assert segment_corpus(broken, tmp_path / "none.jsonl", SegmentSettings("none")).unreadable == 0
    (tmp_path / "begun.jsonl.unfinished").write_text(json.dumps({"settings": {}}) + "\n")
    with pytest.raises(AsrkdError, match="is of a segmentation with"):
        segment_corpus(recordings, tmp_path / "begun.jsonl", SegmentSettings("energy"))
    for settings, message in (
        ({"vad": "webrtc"}, "vad is 'webrtc'"),
        ({"threshold": 1.0}, "threshold is 1.0"),
        ({"min_seconds": 1.0, "max_seconds": 1.5}, "max_seconds is 1.5 and min_seconds 1.0"),
        ({"max_seconds": 0.0}, "max_seconds is 0.0"),
        ({"pad": 8.0}, "pad is 8.0"),
        ({"merge": -1.0}, "merge is -1.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            SegmentSettings(**settings)
    monkeypatch.setattr("importlib.metadata.version", lambda name: (_ for _ in ()).throw(_not_found()))
    with pytest.raises(
        ConfigError, match=r"silero-vad is not installed; pip install 'asrkd\[segment\]', or take --vad energy"
    ):
        segment_corpus(recordings, tmp_path / "silero.jsonl", SegmentSettings())


def _not_found() -> Exception:
    import importlib.metadata

    return importlib.metadata.PackageNotFoundError("silero-vad")


def test_the_tally_counts_reports() -> None:
    tally = SegmentTally()
    tally.add({"id": "a", "seconds": 3.0, "segments": 2, "kept_seconds": 1.5, "kept": 0.5})
    tally.add({"id": "b", "seconds": 0.0, "segments": 0, "kept_seconds": 0.0, "unreadable": "why"})
    assert tally == SegmentTally(2, 1, 2, 3.0, 1.5)
