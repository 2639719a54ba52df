from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers import make_cuts, make_teacher
from lhotse import CutSet

from asrkd.cli import cli
from asrkd.corpus.where import parse_where
from asrkd.errors import CorpusError, MismatchError, StoreError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import grow, plan
from asrkd.labeling.status import status
from asrkd.store import Store
from asrkd.store.delete import delete
from asrkd.store.files import Files
from asrkd.store.plan import read_cuts
from asrkd.store.verify import verify


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`old.jsonl.gz` (12 utterances) and `new.jsonl.gz` (7 others), and `grown.jsonl.gz`, both of them mixed."""
    folder = tmp_path_factory.mktemp("corpora")
    make_cuts(folder, "old", 12)
    make_cuts(folder, "new", 7, seed=1)
    old, new = (list(CutSet.from_file(folder / f"{name}.jsonl.gz")) for name in ("old", "new"))
    CutSet(new[:3] + old + new[3:]).to_file(folder / "grown.jsonl.gz")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pt")


def planned(root: Path | str, units: int | None = None) -> list[list[str]]:
    count = int(Store.open(str(root)).plan["num_units"]) if units is None else units
    return [[cut["id"] for cut in read_cuts(Files(str(root)), unit)] for unit in range(count)]


def shards(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "shards").glob("*.parquet"))}


def test_several_corpora_and_conditions(corpora: Path, tmp_path: Path) -> None:
    names = [str(corpora / "old.jsonl.gz"), str(corpora / "new.jsonl.gz")]
    conditions = [parse_where("duration>=1"), parse_where("speaker!=speaker-1")]
    made = plan(names, str(tmp_path), embed="audio", unit_hours=0.001, where=conditions)
    cuts = [cut for name in names for cut in CutSet.from_file(name)]
    wanted = [cut for cut in cuts if cut.duration >= 1 and cut.supervisions[0].speaker != "speaker-1"]
    assert 0 < len(wanted) < 13
    assert [key for unit in planned(tmp_path) for key in unit] == [cut.id for cut in wanted]
    assert made.plan["num_cuts"] == len(wanted)
    assert made.plan["hours"] == pytest.approx(sum(cut.duration for cut in wanted) / 3600)
    with pytest.raises(CorpusError, match=r"'old-0' of '.*grown.jsonl.gz' occurs twice in '.*old.jsonl.gz', '.*grown"):
        plan([names[0], str(corpora / "grown.jsonl.gz")], str(tmp_path / "twice"), embed="audio")
    with pytest.raises(CorpusError, match="no cut of .* meets every condition"):
        plan(names, str(tmp_path / "none"), embed="audio", where=[parse_where("duration>1000")])
    assert not (tmp_path / "none").exists()


def test_units_have_about_equal_audio(corpora: Path, tmp_path: Path) -> None:
    plan(str(corpora / "grown.jsonl.gz"), str(tmp_path), embed="audio", unit_hours=0.001)
    seconds = [
        sum(cut["duration"] for cut in read_cuts(Files(str(tmp_path)), unit)) for unit in range(len(planned(tmp_path)))
    ]
    longest = max(cut.duration for cut in CutSet.from_file(corpora / "grown.jsonl.gz"))
    assert all(3.6 <= length < 3.6 + longest for length in seconds[:-1])


def test_a_grown_corpus_adds_units_and_changes_none(corpora: Path, teacher: str, tmp_path: Path) -> None:
    root = tmp_path / "store"
    plan(str(corpora / "old.jsonl.gz"), str(root), teacher=teacher, embed="audio", unit_hours=0.001)
    run(Local(Store.open(str(root))))
    before, units = shards(root), planned(root)
    delete(Store.open(str(root)), ids=["old-2"])
    touched = {name for name, content in shards(root).items() if content != before[name]}
    before = shards(root)
    made, added = grow(str(corpora / "grown.jsonl.gz"), Store.open(str(root)), unit_hours=0.001)
    assert added == 7 and made.plan["num_cuts"] == 19 and len(touched) == 1
    assert [key for unit in planned(root)[len(units) :] for key in unit] == [f"new-{number}" for number in range(7)]
    assert verify(str(root)) == [
        f"shards/part-{n:05d}.parquet is not there" for n in range(len(units), len(planned(root)))
    ]
    run(Local(Store.open(str(root))))
    after = shards(root)
    assert {name: after[name] for name in before} == before and len(after) == len(planned(root))
    assert verify(str(root)) == [] and status(Store.open(str(root))).utterances == 18
    # Nothing is new any more, and the deleted cut does not come back.
    manifest = (root / "manifest.json").read_bytes()
    assert grow(str(corpora / "grown.jsonl.gz"), Store.open(str(root)))[1] == 0
    assert (root / "manifest.json").read_bytes() == manifest
    with pytest.raises(StoreError, match="has no 'manifest.json'"):
        grow(str(corpora / "grown.jsonl.gz"), Store.open(str(tmp_path / "none")))


def test_files_that_cannot_be_opened_go_to_quarantine(corpora: Path, tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.flac").write_bytes((corpora / f"audio/old/old-{number}.flac").read_bytes())
    (folder / "2.flac").write_bytes(b"no audio at all")
    (tmp_path / "table.tsv").write_text("audio\tid\naudio/1.flac\tone\naudio/9.flac\tnine\n")
    for corpus, bad in (
        (folder, {"2": "2.flac' cannot be read"}),
        (tmp_path / "table.tsv", {"nine": "does not exist"}),
    ):
        root = str(tmp_path / f"store-{len(bad)}-{corpus.name}")
        made = plan(str(corpus), root, embed="audio")
        run(Local(Store.open(root)), max_quarantined=0.5)
        found = status(Store.open(root))
        assert [key for key, _ in found.quarantine] == list(bad)
        assert all(bad[key] in reason for key, reason in found.quarantine)
        assert found.utterances == made.plan["num_cuts"] - 1 and verify(root) == []


def test_files_that_were_mended_come_in_by_growing(corpora: Path, tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.flac").write_bytes((corpora / f"audio/old/old-{number}.flac").read_bytes())
    for number in (1, 2):
        (folder / f"{number}.flac").write_bytes(b"no audio at all")
    root = str(tmp_path / "store")
    assert plan(str(folder), root, embed="audio").plan["num_unreadable"] == 2
    run(Local(Store.open(root)), max_quarantined=0.5)
    (folder / "2.flac").write_bytes((corpora / "audio/old/old-2.flac").read_bytes())
    assert grow(str(folder), Store.open(root))[1] == 1  # not file 1 once more
    run(Local(Store.open(root)), max_quarantined=0.5)
    assert [row["id"] for row in Store.open(root).rows(["id"])] == ["0", "3", "2"] and verify(root) == []


def test_a_cut_that_lhotse_cannot_make_goes_to_quarantine(corpora: Path, tmp_path: Path) -> None:
    cuts = [cut.to_dict() for cut in CutSet.from_file(corpora / "old.jsonl.gz")]
    del cuts[3]["channel"]
    (tmp_path / "cuts.jsonl").write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    root = str(tmp_path / "store")
    plan(str(tmp_path / "cuts.jsonl"), root, embed="audio")
    run(Local(Store.open(root)), max_quarantined=0.5)
    assert [key for key, _ in status(Store.open(root)).quarantine] == ["old-3"] and verify(root) == []
    for content, message in (
        ("{}", "line 1 holds '{}', which is not a cut of lhotse"),
        ("no json", "cuts.jsonl. line 1 is not JSON"),
    ):
        (tmp_path / "cuts.jsonl").write_text(content + "\n")
        with pytest.raises(CorpusError, match=message):
            plan(str(tmp_path / "cuts.jsonl"), str(tmp_path / "other"), embed="audio")


def test_the_command_line(corpora: Path, teacher: str, tmp_path: Path) -> None:
    def invoke(*arguments: Any) -> Any:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    root = tmp_path / "store"
    result = invoke("label", "plan", corpora / "old.jsonl.gz", root, "--teacher", teacher, "--where", "id!=old-0")
    assert result.exit_code == 0 and "planned 11 cuts" in result.output and "cuts/s)" in result.output
    result = invoke("label", "grow", corpora / "old.jsonl.gz", corpora / "new.jsonl.gz", root)
    assert result.exit_code == 0 and "added 8 cuts; 19 cuts, 2 units are planned" in result.output
    result = invoke("label", "plan", corpora / "old.jsonl.gz", root)
    assert isinstance(result.exception, StoreError) and "add cuts with asrkd label grow" in str(result.exception)


def test_another_teacher_cannot_label_what_is_added(corpora: Path, tmp_path: Path) -> None:
    spec = make_teacher(tmp_path / "teacher.pt")
    root = str(tmp_path / "store")
    plan(str(corpora / "old.jsonl.gz"), root, teacher=spec, embed="audio")
    make_teacher(tmp_path / "teacher.pt", seed=5)
    grow(str(corpora / "new.jsonl.gz"), Store.open(root))
    with pytest.raises(MismatchError, match="now has the fingerprint"):
        run(Local(Store.open(root)))


def test_cuts_that_are_too_long_are_counted_and_segmenting_is_named(tmp_path: Path) -> None:
    def cut(key: str, seconds: float) -> str:
        recording = {"id": key, "sources": [{"type": "file", "channels": [0], "source": f"/nowhere/{key}.flac"}]}
        recording |= {
            "sampling_rate": 8000,
            "num_samples": int(8000 * seconds),
            "duration": seconds,
            "channel_ids": [0],
        }
        fields = {"id": key, "start": 0, "duration": seconds, "channel": 0, "supervisions": [], "type": "MonoCut"}
        return json.dumps(fields | {"recording": recording}) + "\n"

    cuts, store = tmp_path / "cuts.jsonl", str(tmp_path / "store")
    cuts.write_text(cut("short", 5) + cut("whole", 7200))
    planned = CliRunner().invoke(cli, ["label", "plan", str(cuts), store])
    assert planned.exit_code == 0 and "segment" not in planned.output
    again = CliRunner().invoke(cli, ["label", "grow", str(cuts), store])
    assert again.exit_code == 0 and "segment" not in again.output
    with open(cuts, "a") as file:
        file.write(cut("long", 7201) + cut("longer", 90_000))
    grown = CliRunner().invoke(cli, ["label", "grow", str(cuts), store])
    assert grown.exit_code == 0 and "2 cuts are longer than 2 hours" in grown.output and "asrkd segment" in grown.output
    assert Store.open(store).plan["num_too_long"] == 2
