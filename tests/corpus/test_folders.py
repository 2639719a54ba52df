"""Folders of audio: every file that can be decoded is found, and what is passed over is told."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkd.corpus import folders
from asrkd.corpus.augment import load_noises
from asrkd.corpus.cuts import iterate_json
from asrkd.errors import CorpusError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.labeling.status import status
from asrkd.store import Store

RATE = 16000


def audio(path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(len(path.name)).normal(size=RATE)
    soundfile.write(path, samples.astype(np.float32), RATE, **options)
    return path


def found(folder: Path) -> dict[str, str | None]:
    """Ids of the cuts of a folder, each with the reason if it is unreadable."""
    return {cut["id"]: cut.get("unreadable") for cut in iterate_json(folder)}


def test_links_to_folders_and_files_are_followed_and_circles_end(tmp_path: Path) -> None:
    audio(tmp_path / "disk/deep/x.wav")
    audio(tmp_path / "corpus/part/y.wav")
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "disk")
    (tmp_path / "corpus/part/up").symlink_to(tmp_path / "corpus")
    (tmp_path / "disk/again").symlink_to(tmp_path / "disk/deep")
    (tmp_path / "corpus/z.wav").symlink_to(tmp_path / "disk/deep/x.wav")
    assert found(tmp_path / "corpus") == {"linked/again/x": None, "linked/deep/x": None, "part/y": None, "z": None}


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    audio(tmp_path / "x.wav")
    (tmp_path / "y.wav").symlink_to(tmp_path / "gone.wav")
    reason = found(tmp_path)["y"]
    assert reason is not None and "is a link to" in reason and "gone.wav', which does not exist" in reason


def test_every_suffix_is_found_in_either_case(tmp_path: Path) -> None:
    for name in ("a.wav", "b.WAV", "c.flac", "d.aiff", "e.AIF", "f.au", "g.caf", "h.w64", "i.ogg", "k.rf64", "l.voc"):
        kind = {"aif": "AIFF", "b": "WAV"}.get(name.split(".")[1].lower(), None)
        audio(tmp_path / name, format=kind or name.split(".")[1].upper())
    audio(tmp_path / "m.opus", format="OGG", subtype="OPUS")
    audio(tmp_path / "n.oga", format="OGG", subtype="VORBIS")
    audio(tmp_path / "o.mp3", format="MP3")
    audio(tmp_path / "p.sph", format="NIST")
    audio(tmp_path / "q.aifc", format="AIFF")
    audio(tmp_path / "r.snd", format="AU")
    audio(tmp_path / "s.wave", format="WAV")
    assert found(tmp_path) == dict.fromkeys("abcdefghiklmnopqrs")


def test_other_files_are_counted_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    audio(tmp_path / "x.wav")
    for name in ("a.txt", "b.TXT", "c.json", "README", ".hidden.wav", "._x.wav", ".git/y.wav", "__MACOSX/._x.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no audio")
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path) == {"x": None}
    (message,) = [record.getMessage() for record in caplog.records]
    assert "1 audio files; passed over: 4 files of other kinds (2 .txt, 1 .json, 1 without suffix)" in message
    assert "4 hidden or of the system" in message
    caplog.clear()
    audio(tmp_path / "only/x.wav")
    assert found(tmp_path / "only") == {"x": None} and not caplog.records


def test_names_that_are_not_utf_8_are_refused_readably(tmp_path: Path) -> None:
    audio(tmp_path / "x.wav")
    os.rename(tmp_path / "x.wav", os.fsencode(tmp_path) + b"/caf\xe9.wav")
    for name in ("ü.wav", "with blank.wav", "line\nend.wav", "tab\t.wav"):
        audio(tmp_path / name)
    plan(str(tmp_path), str(tmp_path / "st/ore"), embed="audio")
    run(Local(Store.open(str(tmp_path / "st/ore"))), max_quarantined=1)
    ((key, reason),) = status(Store.open(str(tmp_path / "st/ore"))).quarantine
    assert key == "caf\\xe9" and "caf\\\\xe9.wav' has a name that is not UTF-8" in reason
    stored = Store.open(str(tmp_path / "st/ore")).column(0, "id").to_pylist()
    assert sorted(stored) == sorted(["ü", "with blank", "line\nend", "tab\t"])


def test_two_files_of_one_id_are_both_named(tmp_path: Path) -> None:
    audio(tmp_path / "sub/a.wav")
    audio(tmp_path / "sub/a.flac")
    with pytest.raises(CorpusError, match=r"sub' holds 'a.flac' and 'a.wav', .* one id"):
        found(tmp_path)


def test_what_cannot_be_used_is_named_and_the_rest_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio(tmp_path / "good.wav")
    audio(tmp_path / "closed/x.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_bytes(b"no audio at all")
    (tmp_path / "movie.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), RATE)
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "hollow.WAV").mkdir()
    (tmp_path / "nothing").mkdir()
    audio(tmp_path / "session.wav/x.wav")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", refusing)
    reasons = found(tmp_path)
    for key, words in {
        "closed/": "closed' cannot be read (Permission denied), so its audio is not labeled",
        "empty": "is empty (0 bytes)",
        "hollow.WAV/": "hollow.WAV' cannot be read (it is an empty folder with the name of an audio file)",
        "movie": "needs FFmpeg, which lhotse does not find; install",
        "none": "holds no samples",
        "pipe": "is not a file",
        "text": "cannot be read: libsndfile knows no such format",
    }.items():
        assert words in str(reasons.pop(key)), key
    assert reasons == {"good": None, "session.wav/x": None}


def test_a_folder_without_audio_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(CorpusError, match=r"holds no audio .*passed over: 1 files of other kinds \(1 .txt\)"):
        found(tmp_path)


def test_paths_hold_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan with relative paths, run from another folder."""
    audio(tmp_path / "work/a/x.wav")
    audio(tmp_path / "corpus/b/y.wav")
    (tmp_path / "work/t.tsv").write_text("audio\na/x.wav\n")
    monkeypatch.chdir(tmp_path / "work")

    def manifest(path: Path, source: str) -> Path:
        recording = {
            "id": "r", "sources": [{"type": "file", "channels": [0], "source": source}], "sampling_rate": RATE,
            "num_samples": RATE, "duration": 1.0, "channel_ids": [0],
        }  # fmt: skip
        cut = {"id": "r", "start": 0, "duration": 1.0, "channel": 0, "recording": recording, "type": "MonoCut"}
        path.write_text(json.dumps(cut) + "\n")
        return path

    manifest(tmp_path / "work/m.jsonl", "a/x.wav")
    # Next to the manifest, where nothing is below the folder of the plan.
    manifest(tmp_path / "corpus/m.jsonl", "b/y.wav")
    corpora = ["a", "t.tsv", "m.jsonl", "../corpus/m.jsonl"]
    for number, corpus in enumerate(corpora):
        plan(corpus, str(tmp_path / f"store-{number}"), embed="audio")
    monkeypatch.chdir("/")
    for number in range(len(corpora)):
        run(Local(Store.open(str(tmp_path / f"store-{number}"))))
        assert status(Store.open(str(tmp_path / f"store-{number}"))).utterances == 1
    (tmp_path / "corpus/b/y.wav").unlink()
    run(Local(Store.open(str(plan_again(tmp_path)))), max_quarantined=1)
    ((_, reason),) = status(Store.open(str(tmp_path / "gone"))).quarantine
    assert reason.endswith("b/y.wav' does not exist; repair it or leave the cut out") and "\n" not in reason


def plan_again(folder: Path) -> Path:
    plan(str(folder / "corpus/m.jsonl"), str(folder / "gone"), embed="audio")
    return folder / "gone"


def test_noise_is_found_as_a_corpus_is(tmp_path: Path) -> None:
    audio(tmp_path / "disk/x.aiff")
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise/linked").symlink_to(tmp_path / "disk")
    audio(tmp_path / "noise/y.mp3", format="MP3")
    (tmp_path / "noise/._y.wav").write_bytes(b"resource fork")
    assert [len(noise) for noise in load_noises(tmp_path / "noise", RATE)] == [RATE, RATE]
