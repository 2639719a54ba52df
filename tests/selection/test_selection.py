"""Levels, copies in other formats, and the page of a corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.where import parse_where
from asrkd.errors import AsrkdError, CorpusError
from asrkd.report.corpus import write_corpus_page
from asrkd.selection.levels import measure_cut
from asrkd.selection.measure import measure_corpus, unreadable_file
from asrkd.selection.overview import look_at

RATE = 16000


def clip(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Tones that come and go, each clip others, over a little noise."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    out = 0.001 * generator.standard_normal(len(time))
    for _ in range(60):
        begin, length = generator.uniform(0, seconds), generator.uniform(0.05, 0.4)
        envelope = np.exp(-(((time - begin) / length) ** 2))
        out += generator.uniform(0.02, 0.1) * envelope * np.sin(2 * np.pi * generator.uniform(200, 3400) * time)
    return (0.5 * out / np.abs(out).max()).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number in range(20):
        soundfile.write(folder / f"clip-{number:02d}.flac", clip(number), RATE)
    first = clip(0)
    for rate, name in ((8000, "z-8k.flac"), (44100, "z-44k.wav"), (RATE, "z-opus.opus"), (44100, "z-mp3.mp3")):
        samples = torchaudio.functional.resample(torch.from_numpy(first), RATE, rate).numpy()
        kind = {"format": "OGG", "subtype": "OPUS"} if name.endswith("opus") else {}
        soundfile.write(folder / name, samples, rate, **kind)
    soundfile.write(folder / "z-quiet.flac", 0.1 * first, RATE)
    soundfile.write(folder / "z-same.wav", soundfile.read(folder / "clip-00.flac")[0], RATE)
    soundfile.write(folder / "clipped.flac", np.clip(10 * clip(100), -1, 1), RATE)
    (folder / "broken.flac").write_bytes(b"fLaC" + bytes(100))
    return folder


def test_copies_are_found_and_others_are_not(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "measured.jsonl"
    tally = measure_corpus(folder, out)
    fields = {cut["id"]: cut["custom"] for cut in iterate_json(out)}
    copies = {key: one["duplicate_of"] for key, one in fields.items() if one["duplicate_of"]}
    assert copies == dict.fromkeys([f"z-{name}" for name in ("44k", "8k", "mp3", "opus", "quiet", "same")], "clip-00")
    assert (tally.cuts, tally.unreadable, tally.duplicates) == (28, 1, 6)
    assert [json.loads(line)["id"] for line in unreadable_file(out).read_text().splitlines()] == ["broken"]
    assert fields["clipped"]["clipping"] > 0.05 and fields["clipped"]["peak_dbfs"] == 0.0
    assert fields["clip-03"]["clipping"] == 0.0 and abs(fields["clip-03"]["peak_dbfs"] + 6) < 0.1
    assert abs(fields["clip-00"]["level_dbfs"] - fields["z-quiet"]["level_dbfs"] - 20) < 0.2
    chosen = [parse_where(one) for one in ("custom.duplicate_of=", "custom.clipping<0.01", "custom.level_dbfs>=-40")]
    kept = [cut["id"] for cut in iterate_json(out) if all(condition(cut) for condition in chosen)]
    assert kept == [f"clip-{number:02d}" for number in range(20)]


def test_signal_to_noise(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    samples = 0.01 * generator.standard_normal(10 * RATE)
    samples[3 * RATE : 6 * RATE] += 0.1 * generator.standard_normal(3 * RATE)
    soundfile.write(tmp_path / "a.flac", samples, RATE)
    measured = measure_cut(next(iterate_json(tmp_path)))
    assert abs(measured.snr_db - 20) < 1.5


@pytest.mark.slow
def test_the_same_with_several_processes(folder: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        measure_corpus(folder, tmp_path / f"{workers}.jsonl.gz", workers=workers)
    assert (tmp_path / "1.jsonl.gz").read_bytes() == (tmp_path / "2.jsonl.gz").read_bytes()


def test_the_page_shows_what_is_there(folder: Path, tmp_path: Path) -> None:
    overview = look_at(folder, sample=25, seed=3)
    assert overview.cuts == 28 and overview.formats["flac"] == 23 and overview.rates["44100 Hz"] == 2
    assert [key for key, _ in overview.broken] == ["broken"] and len(overview.measured) == 25
    page = write_corpus_page(tmp_path / "page.html", "x", overview, clips=5).read_text()
    assert page.count("<audio") == 5 == page.count("data:audio/ogg;base64,") and "clipped samples" in page
    assert (
        "media-src data:" in page
        and "damaged" in page
        and "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    )
    again = write_corpus_page(tmp_path / "again.html", "x", look_at(folder, sample=25, seed=3), clips=5).read_text()
    assert again == page
    other = look_at(folder, sample=5, seed=4)
    assert [one.cut["id"] for one in other.measured] != [one.cut["id"] for one in overview.measured[:5]]


def test_wrong_inputs(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AsrkdError, match=r"'.*out\.txt' is not a manifest's name"):
        measure_corpus(folder, tmp_path / "out.txt")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.flac").write_bytes(b"fLaC" + bytes(100))
    with pytest.raises(CorpusError, match="no cut of .* can be read; the first one: .*damaged"):
        measure_corpus(tmp_path / "bad", tmp_path / "out.jsonl")
    assert not list(tmp_path.glob("out*"))
    measure_corpus(folder, tmp_path / "measured.jsonl")
    before = (tmp_path / "measured.jsonl").read_bytes()
    with pytest.raises(AsrkdError, match="is the corpus itself"):
        measure_corpus(tmp_path / "measured.jsonl", tmp_path / "measured.jsonl")
    assert (tmp_path / "measured.jsonl").read_bytes() == before
    page = write_corpus_page(tmp_path / "page.html", "x", look_at(tmp_path / "bad")).read_text()
    assert "No audio could be read" in page
