"""Audio as it comes: what can be used is used as it should, what cannot ends in quarantine with a reason, and the counts add up."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from helpers import make_teacher
from lhotse import CutSet, Recording

from asrkd.acoustic import load_model
from asrkd.cli import cli
from asrkd.labeling.plan import plan
from asrkd.labeling.status import status
from asrkd.store import Store
from asrkd.store.verify import verify

RATE = 16000


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.2 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture(scope="module")
def hazards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hazards") / "audio"
    folder.mkdir()
    for number in range(6):
        soundfile.write(folder / f"good-{number}.flac", tone(1.0 + number / 10), RATE)
    soundfile.write(folder / "stereo.wav", np.stack([tone(1.0), -0.5 * tone(1.0)], axis=1), RATE)
    soundfile.write(folder / "slow.wav", tone(1.0, 8000), 8000)
    nan = tone(1.0)
    nan[4000] = np.nan
    soundfile.write(folder / "nan.wav", nan, RATE, subtype="FLOAT")
    soundfile.write(folder / "empty.wav", np.zeros(0, dtype=np.float32), RATE)
    soundfile.write(folder / "short.wav", tone(0.01), RATE)
    soundfile.write(folder / "truncated.flac", np.random.default_rng(0).normal(0, 0.1, 2 * RATE), RATE)
    whole = (folder / "truncated.flac").read_bytes()
    (folder / "truncated.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "text.flac").write_text("this is not audio")
    with soundfile.SoundFile(folder / "day.flac", "w", 8000, 1) as long:
        for _ in range(600):  # ten hours
            long.write(np.zeros(60 * 8000, dtype=np.int16))
    return folder


def label(root: Path, *options: str) -> Any:
    return CliRunner().invoke(cli, ["label", "run", str(root), *options])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_every_hazard_ends_where_it_should(hazards: Path, tmp_path: Path) -> None:
    teacher, root = make_teacher(tmp_path / "final.pt"), tmp_path / "store"
    plan(str(hazards), str(root), teacher=teacher, codec="dense", unit_hours=0.001, embed="audio")
    refused = label(root)
    assert refused.exit_code == 1 and "cuts cannot be labeled, more than the share of 0.01" in str(refused.exception)
    done = label(root, "--max-quarantined", "0.5", "--readers", "1")
    assert done.exit_code == 0, done.output
    found = status(Store.open(str(root)))
    reasons = dict(found.quarantine)
    assert sorted(reasons) == ["day", "empty", "nan", "short", "text", "truncated"]
    for key, words in {
        "day": "is 36000.00 s long",
        "empty": "",
        "nan": "NaN",
        "short": "160 samples, too few for one frame",
        "text": "cannot be read",
        "truncated": "cannot be read",
    }.items():
        assert words in reasons[key], reasons[key]
    assert found.cuts == 14 and found.utterances == 8 and verify(str(root)) == []
    rows = {row["id"]: row for row in Store.open(str(root)).rows()}
    assert rows["slow"]["num_samples"] == RATE and rows["slow"]["sampling_rate"] == RATE
    samples, _ = soundfile.read(hazards / "stereo.wav", dtype="float32")
    expected, model = samples.mean(axis=1), load_model(teacher)
    features = model.front_end(torch.from_numpy(np.rint(expected * 32768).astype(np.int16).astype(np.float32) / 32768))
    log_probs, _ = model.log_probs(features[None], torch.tensor([len(features)]))
    targets = Store.open(str(root)).targets(rows["stereo"]).to_dense()
    np.testing.assert_allclose(targets, log_probs[0].numpy(), atol=2e-5)
    counted = json.loads(CliRunner().invoke(cli, ["label", "status", str(root), "--json"]).output)
    assert counted["units_done"] == counted["units"] and len(counted["quarantine"]) == 6


@pytest.mark.slow
def test_an_archive_without_some_of_its_members_labels_the_others(tmp_path: Path) -> None:
    """lhotse's Shar: cuts in a manifest, their audio in a tar file next to it."""
    cuts = []
    for number in range(6):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, tone(1.0), RATE)
        cuts.append(Recording.from_file(path, recording_id=f"r{number}").to_cut())
    (tmp_path / "shar").mkdir()
    CutSet.from_cuts(cuts).to_shar(tmp_path / "shar", fields={"recording": "flac"}, shard_size=6)
    [archive] = (tmp_path / "shar").glob("recording.*.tar")
    content = archive.read_bytes()
    with tarfile.open(archive) as whole:
        members = [(one, whole.extractfile(one).read()) for one in whole.getmembers()]  # type: ignore[union-attr]
    for damage in ("truncated", "missing"):
        if damage == "truncated":
            archive.write_bytes(content[: len(content) // 2])
        else:
            with tarfile.open(archive, "w") as less:
                for one, data in members[:4] + members[6:]:  # without the third recording's two members
                    less.addfile(one, io.BytesIO(data))
        root = tmp_path / f"store-{damage}"
        plan(str(tmp_path / "shar"), str(root), embed="audio")
        assert label(root, "--max-quarantined", "1").exit_code == 0
        reasons = dict(status(Store.open(str(root))).quarantine)
        lost = {"r2"} if damage == "missing" else {"r3", "r4", "r5"}
        assert set(reasons) >= lost and "r0" not in reasons
        assert {row["recording_id"] for row in Store.open(str(root)).rows()} | set(reasons) == {
            f"r{n}" for n in range(6)
        }
        assert all(archive.name in reason for reason in reasons.values()), reasons
