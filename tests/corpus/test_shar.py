"""Shar folders: the same audio as lhotse reads, and what is missing named."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, NumpyFilesWriter, Recording, SupervisionSegment
from lhotse.cut import MonoCut
from lhotse.utils import fastcopy

from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json, open_cuts
from asrkd.errors import CorpusError


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> list[MonoCut]:
    """Five cuts, the last of two channels and an odd id; each with a text and some with custom fields."""
    folder, rng, made = tmp_path_factory.mktemp("audio"), np.random.default_rng(0), []
    with NumpyFilesWriter(folder / "arrays") as writer:
        for number in range(5):
            path = folder / f"u{number}.wav"
            soundfile.write(path, 0.1 * rng.normal(size=(8000 + 100 * number, 2 if number == 4 else 1)), 16000)
            recording = Recording.from_file(path)
            cut = recording.to_cut().with_id(f"sub/é.{number}" if number == 4 else f"u{number}")
            cut.supervisions = [SupervisionSegment(cut.id, recording.id, 0, recording.duration, text=f"text {number}")]
            cut.note = {"nested": [number]}
            if number == 1:
                cut.codes = writer.store_array("k", np.arange(3))
            if number == 2:
                cut.target_recording = recording
            made.append(cut)
    return made


def without_recording(cut: Any) -> Any:
    return fastcopy(cut, recording=None)


def write(cuts: list[Any], folder: Path, **options: Any) -> Path:
    folder.mkdir()
    options = {"fields": {"recording": "wav"}, "shard_size": 2, "warn_unused_fields": False} | options
    CutSet.from_cuts(cuts).to_shar(folder, **options)
    return folder


def same_audio(folder: Path) -> list[dict[str, Any]]:
    """The cuts in JSON, after their audio was compared with lhotse's."""
    found = [json.loads(json.dumps(cut)) for cut in iterate_json(folder)]
    for cut, theirs in zip(found, CutSet.from_shar(in_dir=folder), strict=True):
        expected = theirs.load_audio().mean(axis=0)
        np.testing.assert_array_equal(read_audio(to_cut(cut), theirs.sampling_rate), expected)
    for cut, expected_id in zip(open_cuts(folder), found, strict=True):
        assert cut.id == expected_id["id"] and cut.load_audio().size
    return found


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "opus", "original"])
def test_audio_is_what_lhotse_reads(cuts: list[MonoCut], tmp_path: Path, kind: str) -> None:
    found = same_audio(write(cuts, tmp_path / "shar", fields={"recording": kind}))
    assert [cut["id"] for cut in found] == [cut.id for cut in cuts]
    assert [cut["supervisions"][0]["text"] for cut in found] == [f"text {number}" for number in range(5)]
    assert found[3]["custom"]["note"] == {"nested": [3]}
    assert len(json.dumps(found)) < 10_000  # no audio in it


def test_unsharded_and_plain_text(cuts: list[MonoCut], tmp_path: Path) -> None:
    folder = write(cuts, tmp_path / "one", shard_size=None)
    assert (folder / "cuts.jsonl.gz").exists() and len(same_audio(folder)) == 5
    (folder / "cuts.jsonl").write_bytes(gzip.decompress((folder / "cuts.jsonl.gz").read_bytes()))
    with pytest.raises(CorpusError, match="has both 'cuts.jsonl' and 'cuts.jsonl.gz'"):
        list(iterate_json(folder))
    (folder / "cuts.jsonl.gz").unlink()
    assert len(same_audio(folder)) == 5


def test_arrays_and_recordings_keep_their_manifests(cuts: list[MonoCut], tmp_path: Path) -> None:
    fields = {"recording": "wav", "codes": "numpy", "target_recording": "flac", "note": "jsonl"}
    found = same_audio(write(cuts, tmp_path / "shar", fields=fields))
    assert found[1]["custom"]["codes"] == {
        "storage_type": "shar",
        "storage_path": str(tmp_path / "shar/codes.000000.tar"),
        "storage_key": "u1.npy",
        "shape": [3],
    }
    assert found[2]["custom"]["target_recording"]["sources"][0]["source"]["member"] == "u2.flac"
    assert "codes" not in found[0]["custom"] and found[4]["custom"]["note"] == {"nested": [4]}


def test_cuts_alone_keep_the_files_they_name(cuts: list[MonoCut], tmp_path: Path) -> None:
    found = list(iterate_json(write(cuts, tmp_path / "shar", fields={})))
    np.testing.assert_array_equal(read_audio(to_cut(found[0]), 16000), cuts[0].load_audio()[0])


def test_recordings_in_json(cuts: list[MonoCut], tmp_path: Path) -> None:
    folder = write([without_recording(cut) for cut in cuts], tmp_path / "shar", fields={})
    for shard in range(3):
        lines = [{"cut_id": cut.id, "recording": cut.recording.to_dict()} for cut in cuts[2 * shard : 2 * shard + 2]]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"recording.{shard:06d}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    for cut, expected in zip(iterate_json(folder), cuts, strict=True):
        np.testing.assert_array_equal(read_audio(to_cut(cut), 16000), expected.load_audio().mean(axis=0))


def reasons(folder: Path) -> dict[str, str]:
    return {cut["id"]: cut.get("unreadable", "") for cut in iterate_json(folder)}


def test_what_is_missing_is_named_and_the_rest_is_read(cuts: list[MonoCut], tmp_path: Path) -> None:
    folder = write(cuts, tmp_path / "shar")
    (folder / "shar_index.json").write_text("{}")
    (folder / "._cuts.000000.jsonl.gz").write_bytes(b"\0")
    tar = folder / "recording.000000.tar"
    whole = tar.read_bytes()
    (folder / "recording.000001.tar").unlink()
    found = reasons(folder)
    assert [key for key, why in found.items() if why] == ["u2", "u3"]
    assert "no recording file of the shard of 'cuts.000001.jsonl.gz'" in found["u2"]
    for length in (600, len(whole) // 2, 10_000):
        tar.write_bytes(whole[:length])
        found = reasons(folder)
        assert "recording.000000.tar' does not hold it (it is damaged" in found["u1"] and not found["sub/é.4"]
    tar.write_bytes(b"not a tar file" * 100)
    assert "does not hold it (it is damaged" in reasons(folder)["u0"]


def test_order_and_number_may_differ_where_ids_tell(cuts: list[MonoCut], tmp_path: Path) -> None:
    folder = write(cuts[:4], tmp_path / "shar", shard_size=None)
    with gzip.open(folder / "cuts.jsonl.gz", "rt") as stream:
        lines = stream.readlines()
    (folder / "cuts.jsonl.gz").unlink()
    (folder / "cuts.jsonl").write_text("".join([lines[3], lines[1], lines[0]]))
    for cut, expected in zip(iterate_json(folder), (cuts[3], cuts[1], cuts[0]), strict=True):
        np.testing.assert_array_equal(read_audio(to_cut(cut), 16000), expected.load_audio()[0])


def test_folders_that_are_not_whole(cuts: list[MonoCut], tmp_path: Path) -> None:
    folder = write(cuts, tmp_path / "shar")
    (folder / "cuts.000001.jsonl.gz").unlink()
    with pytest.raises(CorpusError, match="'recording.000001.tar' without 'cuts.000001.jsonl.gz'"):
        list(iterate_json(folder))
    packed = write(cuts, tmp_path / "packed")
    (packed / "recording.000000.tar.gz").write_bytes(gzip.compress((packed / "recording.000000.tar").read_bytes()))
    (packed / "recording.000000.tar").unlink()
    with pytest.raises(CorpusError, match="recording.000000.tar.gz' is compressed.*gunzip it"):
        list(iterate_json(packed))


def test_a_tar_file_that_changed_is_told(cuts: list[MonoCut], tmp_path: Path) -> None:
    folder = write(cuts, tmp_path / "shar", shard_size=None)
    planned = list(iterate_json(folder))
    tar = folder / "recording.tar"
    whole = tar.read_bytes()
    with tarfile.open(tar, "w") as changed:
        info = tarfile.TarInfo("other.wav")
        info.size = 40_000
        changed.addfile(info, io.BytesIO(bytes(40_000)))
    with pytest.raises(CorpusError, match="cut 'u0': .*no longer holds 'u0.wav' where it was planned"):
        to_cut(planned[0])
    tar.write_bytes(whole[:-30_000])
    with pytest.raises(CorpusError, match="no longer holds"):
        to_cut(planned[4])
    tar.unlink()
    with pytest.raises(CorpusError, match="cannot be read: No such file"):
        to_cut(planned[0])


def test_cuts_without_recordings_have_no_audio(cuts: list[MonoCut], tmp_path: Path) -> None:
    planned = list(iterate_json(write([cuts[0], without_recording(cuts[1])], tmp_path / "shar")))
    assert read_audio(to_cut(planned[0]), 16000).size
    with pytest.raises(CorpusError, match="has no recording"):
        read_audio(to_cut(planned[1]), 16000)
