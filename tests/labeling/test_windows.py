"""Overlapping windows labeled: their frames, stitched, are the recording's, and a store of them is like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import make_teacher

from asrkd.acoustic import load_model
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cuts import open_cuts
from asrkd.errors import CorpusError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.labeling.relabel import relabel
from asrkd.segmentation.run import segment_corpus
from asrkd.segmentation.settings import WindowSettings
from asrkd.store import Store
from asrkd.store.verify import verify
from asrkd.streaming.joined_audio import JoinedAudio

SECONDS = 31.37


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    (folder / "recordings").mkdir()
    generator = np.random.default_rng(0)
    samples = np.convolve(generator.standard_normal(round(SECONDS * 16000)), np.ones(5) / 5, "same")
    samples *= 0.1 * (1 + np.sin(np.arange(len(samples)) / 3000))
    soundfile.write(folder / "recordings/a.wav", samples, 16000)
    make_teacher(folder / "teacher.pt")
    segment_corpus(folder / "recordings", folder / "windows.jsonl", WindowSettings(6.0, 1.6))
    return folder


@pytest.mark.parametrize("embed", ["audio", "features"])
def test_stitched_frames_are_those_of_the_recording(place: Path, tmp_path: Path, embed: str) -> None:
    spec = str(place / "teacher.pt")
    spec = spec if ":" in spec else f"checkpoint:{spec}"
    store = plan(str(place / "windows.jsonl"), str(tmp_path / "store"), teacher=spec, codec="dense", embed=embed)
    run(Local(store))
    store = Store.open(str(tmp_path / "store"))
    assert verify(str(tmp_path / "store")) == []
    rows = sorted(row for unit in store.units() for row in store.column(unit, "start").to_pylist())
    teacher = load_model(spec)
    samples = read_audio(next(iter(open_cuts(place / "recordings"))), 16000)
    law = store.identity.frame_law
    table = [row for unit in store.units() for row in store.read_row_group(unit, 0).to_pylist()]
    table.sort(key=lambda row: row["start"])
    assert len(rows) == len(table) > 4 and all(row["text"] is None for row in table)
    # Every frame once, and at its place.
    at = 0
    for row in table:
        assert round(row["start"] * 16000) == at * law.frame_shift
        at += row["num_frames"]
    assert at == law.num_frames(len(samples))
    whole, _ = teacher.log_probs(
        teacher.front_end(torch.from_numpy(samples))[None], torch.tensor([law.num_features(len(samples))])
    )
    stitched = torch.cat([store.targets(row_of(row)).to_dense().exp() for row in table])
    middle = (stitched - whole[0].exp()).abs().amax(dim=1)
    # Away from the joins nothing differs but by what the mean of features does, which is over the cut so far.
    assert stitched.shape == whole[0].shape and float(middle.median()) < 0.05
    if embed == "audio":
        assert relabel(store, teacher, 1.0)[1] == []
        joined = JoinedAudio(place / "windows.jsonl")
        for row in table:
            found = joined.samples(row["id"], 16000, row["num_samples"])
            first = round(row["start"] * 16000)
            np.testing.assert_allclose(found, samples[first : first + row["num_samples"]], atol=1e-4)


def row_of(row: dict) -> dict:
    return {name: np.asarray(value) if isinstance(value, list) else value for name, value in row.items()}


def test_windows_are_not_for_transcripts(place: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match="none of .* cuts can be used; the first: .* is a window that overlaps others"
    ):
        plan(str(place / "windows.jsonl"), str(tmp_path / "store"), embed="audio")


def test_a_window_that_was_cut_again_is_quarantined(place: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (place / "windows.jsonl").read_text().splitlines()]
    lines[1]["duration"] = 3.0
    (tmp_path / "cut.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = str(place / "teacher.pt")
    spec = spec if ":" in spec else f"checkpoint:{spec}"
    store = plan(str(tmp_path / "cut.jsonl"), str(tmp_path / "store"), teacher=spec)
    tally = run(Local(store), max_quarantined=0.5)
    assert tally.num_bad == 1 and "must not be cut again" in tally.first_reason
