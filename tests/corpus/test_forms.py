"""Every form of a corpus: what its tool wrote comes out again, and what is wrong is told in one line."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.corpus_writers import WRITERS, Spoken, audio_bytes, files, spoken

from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.transcripts import speaker_of, text_of
from asrkd.errors import CorpusError

CORPUS = spoken()


def come_out(path: str) -> list[Spoken]:
    """What is read of a corpus, through the JSON that a plan holds; each cut by itself, the last one first."""
    cuts = [json.loads(json.dumps(cut)) for cut in iterate_json(path)]
    found = []
    for cut in reversed(cuts):
        assert "unreadable" not in cut, cut["unreadable"]
        samples = np.rint(read_audio(to_cut(cut), 16000) * 32768).astype(np.int16)
        found.append(Spoken(cut["id"], samples, text_of(cut) or "", speaker_of(cut) or ""))
    return found[::-1]


def assert_same(found: list[Spoken], expected: list[Spoken]) -> None:
    assert [(one.id, one.text, one.speaker) for one in found] == [(one.id, one.text, one.speaker) for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


@pytest.mark.parametrize("form", WRITERS)
def test_what_a_tool_wrote_comes_out_again(form: str, tmp_path: Path) -> None:
    expected = [replace(one, speaker="") for one in CORPUS] if form == "webdataset" else CORPUS
    assert_same(come_out(WRITERS[form](CORPUS, tmp_path)), expected)


@pytest.mark.parametrize("form", WRITERS)
def test_cuts_are_those_of_lhotse(form: str, tmp_path: Path) -> None:
    """The JSON that is made without lhotse's objects is what these would write."""
    for cut in iterate_json(WRITERS[form](CORPUS, tmp_path)):
        made = to_cut(cut)
        again = made.to_dict()
        cut["recording"]["sources"], again["recording"]["sources"] = [], []
        assert again == cut


def reasons(path: str) -> dict[str, str]:
    """Why cuts cannot be used, by id."""
    return {cut["id"]: cut["unreadable"] for cut in iterate_json(path) if "unreadable" in cut}


def refusal(path: str) -> str:
    """The one line that refuses a corpus."""
    with pytest.raises(CorpusError) as refused:
        list(iterate_json(path))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def kaldi(folder: Path, **contents: str) -> str:
    """A Kaldi folder of `CORPUS` with other contents of some files, `wav_scp` for wav.scp."""
    audio = files(CORPUS, folder / "audio")
    written = {"wav_scp": "".join(f"{one.id} {audio[one.id]}\n" for one in CORPUS)} | contents
    for name, content in written.items():
        (folder / name.replace("_", ".")).write_text(content)
    return str(folder)


@pytest.mark.parametrize("order", ["u0 u1 u2 u3 u4", "u4 u1 u0 u3 u2"])
def test_kaldi_files_are_joined_by_key_in_any_order(order: str, tmp_path: Path) -> None:
    folder = kaldi(
        tmp_path,
        segments="".join(f"seg-{key} {key} 0.0 -1\n" for key in order.split()),
        text="seg-u3 three\nseg-u1\tone  two\nseg-u0 zero\n",
        utt2spk="seg-u0 a\nseg-u1 b\nseg-u4 c\n",
    )
    found = {cut["id"]: (text_of(cut), speaker_of(cut)) for cut in iterate_json(folder)}
    assert found == {
        "seg-u0": ("zero", "a"),
        "seg-u1": ("one  two", "b"),
        "seg-u2": (None, None),
        "seg-u3": ("three", None),
        "seg-u4": (None, "c"),
    }


@pytest.mark.parametrize("source", ["sph2pipe -f wav a.sph |", "cat a.wav |", "| cat", "-", ""])
def test_a_command_in_wav_scp_is_refused_by_its_line(source: str, tmp_path: Path) -> None:
    audio = files(CORPUS, tmp_path / "audio")
    said = refusal(kaldi(tmp_path, wav_scp=f"u0 {audio['u0']}\nu1 {source}\n"))
    assert "wav.scp' line 2" in said


@pytest.mark.parametrize(
    ("segment", "said"),
    [
        ("u0 0.1 0.1", "has the duration 0.0 s"),
        ("u0 0.2 0.1", "has the duration -0.1 s"),
        ("u0 0 99", "reaches from 0 to"),
        ("u0 99 100", "starts at 99 s, but its recording is 0.250 s long"),
        ("u0 99 -1", "starts at 99 s, but its recording is 0.250 s long"),
        ("gone 0 0.1", "'gone', which wav.scp does not have"),
        ("u0 0 0.1 7", "names the channel 7"),
    ],
)
def test_a_segment_that_cannot_be_cut_is_told(segment: str, said: str, tmp_path: Path) -> None:
    folder = kaldi(tmp_path, segments=f"a u0 0 0.1\nb {segment}\n")
    assert said in reasons(folder)["b"] and "segments' line 2" in reasons(folder)["b"] and "a" not in reasons(folder)


@pytest.mark.parametrize("segment", ["u0 0", "u0 zero 1", "u0 0 1e", "u0 0 nan", "u0 0 1 left", "u0 0 1 0 0"])
def test_a_line_of_another_form_is_refused(segment: str, tmp_path: Path) -> None:
    assert "segments' line 1" in refusal(kaldi(tmp_path, segments=f"a {segment}\n"))


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    assert "'u1' is there twice" in refusal(kaldi(tmp_path, text="u1 a\nu0 b\nu1 c\n"))
    assert "'u0' is there twice" in refusal(kaldi(tmp_path, text="u0 a\nu0 b\nu1 c\n"))


def test_kaldi_names_relative_files_from_the_folder(tmp_path: Path) -> None:
    assert_audio(kaldi(tmp_path, wav_scp="u0 audio/u0.wav\n"), CORPUS[:1])


def assert_audio(path: str, expected: list[Spoken]) -> None:
    for one, other in zip(come_out(path), expected, strict=True):
        assert one.id == other.id
        np.testing.assert_array_equal(one.samples, other.samples)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_archives_of_kaldiio(kind: str, tmp_path: Path) -> None:
    """`AUDIO`, the bytes that the length takes, the length, the file."""
    lines = []
    with open(tmp_path / "flac.ark", "wb") as archive:
        for one in CORPUS:
            archive.write(f"{one.id} ".encode())
            lines.append(f"{one.id} flac.ark:{archive.tell()}\n")
            data = audio_bytes(one.samples, kind)
            width = -(-len(data).bit_length() // 8)
            archive.write(b"AUDIO" + bytes([width]) + len(data).to_bytes(width, "little") + data)
    (tmp_path / "wav.scp").write_text("".join(lines))
    assert_audio(str(tmp_path), CORPUS)


def test_an_archive_that_was_cut_off_is_told(tmp_path: Path) -> None:
    _ = WRITERS["kaldi, archive"](CORPUS, tmp_path)
    archive = tmp_path / "wav.ark"
    archive.write_bytes(archive.read_bytes()[:-100])
    assert "beyond the end of the file" in reasons(str(tmp_path))["u4"]
    (tmp_path / "wav.scp").write_text(f"a wav.ark:{10**9}\nb wav.ark:1\nc gone.ark:4\n")
    found = reasons(str(tmp_path))
    assert "holds nothing" in found["a"] and "holds no audio" in found["b"] and "does not exist" in found["c"]


def nemo(folder: Path, *lines: object) -> str:
    """A NeMo manifest of these lines next to the audio of `CORPUS`."""
    files(CORPUS, folder)
    first = {"audio_filepath": "u0.wav", "id": "first"}
    (folder / "m.json").write_text("".join(json.dumps(line) + "\n" for line in (first, *lines)))
    return str(folder / "m.json")


def test_segments_of_a_nemo_manifest(tmp_path: Path) -> None:
    line = {"audio_filepath": "u0.wav", "offset": 0.05, "duration": 0.1, "text": "x", "speaker": 7, "lang": "ar"}
    first, cut, other, last = iterate_json(
        nemo(
            tmp_path,
            line | {"score": 0.5},
            line | {"offset": 0.2, "duration": None},
            line | {"_skipme": True},
            line | {"id": "b"},
        )
    )
    assert (first["id"], cut["id"], other["id"], last["id"]) == ("first", "u0-000005-000010", "u0", "b")
    assert (text_of(cut), speaker_of(cut), cut["custom"]) == ("x", "7", {"score": 0.5})
    assert cut["supervisions"][0]["language"] == "ar" and other["duration"] == pytest.approx(0.05)
    samples = read_audio(to_cut(cut), 16000)
    np.testing.assert_array_equal(np.rint(samples * 32768), CORPUS[0].samples[800:2400])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"offset": 5, "duration": 1}, "starts at 5 s, but its recording is 0.250 s long"),
        ({"offset": 0.2, "duration": 1}, "reaches from 0.2 to"),
        ({"duration": 1}, "reaches from 0 to"),
        ({"offset": 0, "duration": 0}, "has the duration 0"),
        ({"offset": -1, "duration": 0.1}, "must start at 0 s"),
        ({"offset": "0", "duration": 0.1}, "is not a number of seconds"),
        ({"duration": float("nan")}, "has the duration nan"),
        ({"text": 5}, "is not text"),
        ({"audio_filepath": "gone.wav"}, "does not exist"),
        ({"audio_filepath": ""}, "names no audio"),
        ({"audio_filepath": None}, "names no audio"),
        ({"text_filepath": "gone.txt"}, "gone.txt"),
    ],
)
def test_a_line_of_a_nemo_manifest_that_cannot_be_used_is_told(line: dict, said: str, tmp_path: Path) -> None:
    found = reasons(nemo(tmp_path, {"audio_filepath": "u0.wav", "id": "bad"} | line))
    assert list(found) == ["bad"] and said in found["bad"]


def test_a_tar_that_is_gone_or_lacks_a_member_is_told(tmp_path: Path) -> None:
    path = WRITERS["nemo, tarred"](CORPUS, tmp_path)
    tar = tmp_path / "audio_1.tar"
    data = tar.read_bytes()
    tar.write_bytes(data[:1024])
    assert "does not hold 'u2.wav' (tar file" in reasons(path)["u2"]
    tar.unlink()
    assert "there is no audio_1.tar in" in refusal(path)
    moved = tmp_path / "elsewhere/audio_1.tar"
    moved.parent.mkdir()
    moved.write_bytes(data)
    (tmp_path / "audio_0.tar").rename(moved.parent / "audio_0.tar")
    assert_same(come_out(f"nemo:{path}?tars={moved.parent}/audio_{{0..1}}.tar"), CORPUS)
    moved.unlink()
    assert "audio_1.tar' does not exist" in refusal(f"nemo:{path}?tars={moved.parent}/audio_{{0..1}}.tar")


def test_what_may_be_two_forms_is_refused_until_one_is_named(tmp_path: Path) -> None:
    folder = kaldi(tmp_path)
    _nemo_manifest = nemo(tmp_path)
    Path(_nemo_manifest).rename(tmp_path / "tarred_audio_manifest.json")
    said = refusal(folder)
    assert "kaldi:" in said and "nemo:" in said
    assert len(list(iterate_json(f"kaldi:{folder}"))) == len(CORPUS)
    assert [cut["id"] for cut in iterate_json(f"nemo:{folder}")] == ["first"]
    assert "has the option 'tars=x', which the form kaldi does not have" in refusal(f"kaldi:{folder}?tars=x")


@pytest.mark.parametrize("name", ["kaldi:gone", "gone", "gone_{0..3}.json", "gone*.tar", "x_OP_5..2_CL_.json"])
def test_what_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    assert "gone" in refusal(str(tmp_path / name) if ":" not in name else name) or "names no files" in refusal(name)


@pytest.mark.parametrize(
    ("form", "kind"), [("parquet", "offset"), ("parquet, compressed", "row_group"), ("arrow", "offset")]
)
def test_each_audio_of_a_dataset_has_a_place(form: str, kind: str, tmp_path: Path) -> None:
    """Where Parquet is not compressed the bytes are in the file, and nothing else of it has to be read."""
    cuts = list(iterate_json(WRITERS[form](CORPUS, tmp_path)))
    sources = [cut["recording"]["sources"][0] for cut in cuts]
    assert all(source["type"] == "inside" and kind in source["source"] for source in sources)
    assert [cut["custom"] for cut in cuts] == [{"split": number % 3} for number in range(len(CORPUS))]


def parquet(folder: Path, **columns: list[object]) -> str:
    pq.write_table(pa.table(columns), folder / "d.parquet")
    return str(folder / "d.parquet")


SOUNDS = [{"bytes": audio_bytes(one.samples), "path": f"{one.id}.wav"} for one in CORPUS[:2]]


def test_a_dataset_without_the_column_lists_what_it_has_and_one_may_be_named(tmp_path: Path) -> None:
    path = parquet(tmp_path, speech=SOUNDS, said=["a", "b"], who=[1, 2])
    said = refusal(path)
    assert "has no column 'audio', only 'speech', 'said', 'who'" in said and "?audio=speech" in said
    found = [
        (cut["id"], text_of(cut), speaker_of(cut))
        for cut in iterate_json(f"parquet:{path}?audio=speech&text=said&speaker=who")
    ]
    assert found == [("u0", "a", "1"), ("u1", "b", "2")]
    assert "has no column 'gone'" in refusal(f"parquet:{path}?audio=speech&text=gone")
    assert "has the option 'color=x'" in refusal(f"parquet:{path}?color=x")
    assert [cut["id"] for cut in iterate_json(f"parquet:{path}?audio=speech&id=row")] == ["d-0", "d-1"]


@pytest.mark.parametrize("audio", [[[0.1, 0.2]], [1], [{"array": [0.1], "sampling_rate": 16000}]])
def test_a_column_that_is_not_audio_is_refused(audio: list[object], tmp_path: Path) -> None:
    assert "has a column 'audio' of the type" in refusal(parquet(tmp_path, audio=audio))


def test_a_column_that_cannot_say_it_is_not_taken(tmp_path: Path) -> None:
    path = parquet(
        tmp_path, audio=SOUNDS, text=[["a", "b"], ["c"]], sentence=["x", "y"], speaker=[0.5, 1.5], gender=[0, 1]
    )
    first = next(iter(iterate_json(path)))
    assert (text_of(first), speaker_of(first), first["custom"]) == ("x", None, {"speaker": 0.5, "gender": 0})
    assert "column 'text' of the type list" in refusal(f"parquet:{path}?text=text")
    assert "column 'gender' of the type int64, which is not text" in refusal(f"parquet:{path}?text=gender")
    assert "column 'text' of the type list" in refusal(parquet(tmp_path, audio=SOUNDS, text=[["a"], ["b"]]))


def test_rows_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    rows = [
        SOUNDS[0],
        None,
        {"bytes": None, "path": None},
        {"bytes": b"", "path": "a"},
        {"bytes": b"no audio", "path": "b"},
        {"bytes": None, "path": "gone.wav"},
    ]
    found = reasons(parquet(tmp_path, audio=rows, id=["x", "null", "none", "empty", "text", "gone"]))
    assert "has no audio" in found["null"] and "has no audio" in found["none"] and "x" not in found
    assert "empty" in found["empty"] and "format" in found["text"] and "does not exist" in found["gone"]


def test_splits_and_missing_files_of_a_dataset_are_told(tmp_path: Path) -> None:
    folder = Path(WRITERS["parquet, compressed"](CORPUS, tmp_path))
    first, second = sorted((folder / "data").iterdir())
    second.rename(tmp_path / "second.parquet")
    (folder / "second.parquet").rename(folder / "data/second")
    assert "has 1 of the 2 files of the split 'train', not number 1" in refusal(str(folder))
    (folder / "data/second").rename(folder / "data/test-00000-of-00001.parquet")
    first.rename(folder / "data/train-00000-of-00001.parquet")
    assert "holds 2 splits (test, train)" in refusal(str(folder))
    assert len(list(iterate_json(f"{folder}/data/test-*.parquet"))) == 3


@pytest.mark.parametrize("form", ["parquet", "parquet, compressed", "arrow"])
def test_a_dataset_that_was_cut_off_is_refused(form: str, tmp_path: Path) -> None:
    path = Path(WRITERS[form](CORPUS, tmp_path))
    for file in [path] if path.is_file() else [*path.rglob("*.arrow"), *path.rglob("*.parquet")]:
        file.write_bytes(file.read_bytes()[:-200])
    assert "is damaged or cut off" in refusal(str(path))


@pytest.mark.parametrize(
    "form", ["parquet", "parquet, compressed", "arrow", "webdataset", "kaldi, archive", "nemo, tarred"]
)
def test_a_file_that_changed_behind_the_plan_is_told(form: str, tmp_path: Path) -> None:
    cuts = list(iterate_json(WRITERS[form](CORPUS, tmp_path)))
    for cut in cuts:
        source = cut["recording"]["sources"][0]["source"]
        Path(source["file"]).write_bytes(b"x" * 100)
    for cut in cuts:
        with pytest.raises(CorpusError, match="plan again"):
            to_cut(cut)


def tar(folder: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(folder / "w.tar", "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return folder / "w.tar"


SOUND = audio_bytes(CORPUS[0].samples)


def test_samples_of_a_tar_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    path = tar(
        tmp_path,
        ("x/good.wav", SOUND),
        ("x/good.json", b'{"sentence": "hi", "speaker_id": 4, "snr": 3.5}'),
        ("._x/good.wav", b"system"),
        ("none.txt", b"no audio"),
        ("two.wav", SOUND),
        ("two.flac", SOUND),
        ("bad.wav", b"RIFF...."),
        ("json.wav", SOUND),
        ("json.json", b"{"),
        ("last.left.wav", SOUND),
        ("last.pyd", b"pickle"),
    )
    found = {cut["id"]: cut.get("unreadable", "") for cut in iterate_json(path)}
    assert found["x/good"] == found["last"] == ""
    assert "has no audio, only .txt" in found["none"] and "has 2 audio files" in found["two"]
    assert "not JSON" in found["json"] and found["bad"]
    good = next(iterate_json(path))
    assert (text_of(good), speaker_of(good), good["custom"]) == ("hi", "4", {"snr": 3.5})


@pytest.mark.parametrize("keep", [*range(0, 6400, 511), 1536, 3072, 6144, 6656])
def test_a_tar_that_was_cut_off_gives_what_it_holds(keep: int, tmp_path: Path) -> None:
    small = audio_bytes(CORPUS[0].samples[:400])
    path = tar(tmp_path, *((f"u{number}.wav", small) for number in range(4)))
    path.write_bytes(path.read_bytes()[:keep])
    cuts = list(iterate_json(path))
    good = [cut["id"] for cut in cuts if "unreadable" not in cut]
    ends = [1536 * number + 512 + len(small) for number in range(4)]
    assert good == [f"u{number}" for number, end in enumerate(ends) if end <= keep]
    assert [cut["id"] for cut in cuts if "unreadable" in cut] == (["w.tar"] if keep < 6656 else [])


def test_a_header_that_is_broken_is_not_the_end(tmp_path: Path) -> None:
    path = tar(tmp_path, *((f"u{number}.wav", SOUND) for number in range(3)))
    data = bytearray(path.read_bytes())
    at = data.find(b"u1.wav")
    data[at : at + 100] = b"?" * 100
    path.write_bytes(data)
    assert [cut["id"] for cut in iterate_json(path)] == ["u0", "w.tar"]


def test_tars_that_are_compressed_or_gone_are_refused(tmp_path: Path) -> None:
    path = tar(tmp_path, ("a.wav", SOUND))
    packed = tmp_path / "p.tar"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert "is compressed" in refusal(str(packed))
    assert "w_1.tar' does not exist" in refusal(str(tmp_path / "w_{1..2}.tar"))


def test_common_voice(tmp_path: Path) -> None:
    path = Path(WRITERS["commonvoice"](CORPUS, tmp_path))
    (tmp_path / "clips/u1.flac").unlink()
    cuts = list(iterate_json(path))
    assert cuts[0]["custom"] == {"sentence_id": "x", "up_votes": "2"} and cuts[0]["supervisions"][0]["language"] == "ar"
    assert "does not exist" in cuts[1]["unreadable"]
    path.write_text('path\tsentence\n\thi\nu0.flac\tsaid "so"\n')
    blank, good = iterate_json(path)
    assert "names no audio" in blank["unreadable"] and text_of(good) == 'said "so"'
    path.write_text("audio\ttext\nclips/u0.flac\thi\n")
    assert [text_of(cut) for cut in iterate_json(path)] == ["hi"]
    assert "has no column 'path'" in refusal(f"commonvoice:{path}")


@pytest.mark.parametrize(
    "form", ["nemo", "kaldi", "parquet", "arrow", "webdataset", "commonvoice", "shar", "lhotse", "table"]
)
def test_a_form_that_is_named_and_is_not_there_is_one_line(form: str, tmp_path: Path) -> None:
    assert refusal(f"{form}:{tmp_path}/gone")
    assert refusal(f"{form}:{tmp_path}")
    (tmp_path / "file").write_bytes(b"\x00\x01")
    if form == "webdataset":  # of many tar files one that is broken is told, and the others are read
        assert "is damaged" in reasons(f"{form}:{tmp_path}/file")["file"]
    else:
        assert refusal(f"{form}:{tmp_path}/file")
