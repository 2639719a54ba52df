"""Every output of every command, where the system refuses it: one line and exit code 1 or 2, nothing half written."""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from export.students import student
from graph_helpers import run_settings
from helpers import command_paths, make_teacher
from store.hub_server import hub

from asrkd import config as configs
from asrkd.alignment.align_store import align_store
from asrkd.cli import cli
from asrkd.cli.command import run_command
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.labeling.job import run as label
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.training.trainer import Trainer


@dataclass(frozen=True)
class Place:
    """What the commands read: a corpus, its stores (labeled, aligned, one half labeled), a run, a teacher, an ensemble."""

    folder: Path
    corpus: Path
    teacher: str

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def lexicon(self) -> Path:
        return self.corpus / "lexicon.txt"


@pytest.fixture(scope="module")
def place(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("outputs")
    found = Place(folder, corpus, make_teacher(folder / "teacher.pt"))
    store = str(corpus / "stores/labeled")
    align_store(Store.open(store), str(folder / "aligned"), found.lexicon, states_per_phone=1)
    plan(str(corpus / "unlabeled.jsonl.gz"), str(folder / "planned"), embed="audio", unit_hours=0.003)
    plan(str(corpus / "unlabeled.jsonl.gz"), str(folder / "finished"), embed="audio", unit_hours=0.003)
    label(Local(Store.open(str(folder / "finished"))))
    (folder / "finished/quarantine").mkdir()
    (folder / "finished/quarantine/part-00000.jsonl").write_text('{"id": "gone", "reason": "it was away"}\n')
    config = run_settings(
        corpus, folder / "aligned", folder / "run", schedule=[{"steps": 2, "mixture": {"labeled": 1}}]
    )
    (folder / "train.yaml").write_text(configs.to_yaml(config))
    Trainer(config).train()
    (folder / "ensemble.yaml").write_text(f"teachers: [{{spec: 'checkpoint:{folder}/run'}}]\n")
    (folder / "hyp.txt").write_text("a x\n")
    units = Inventory(("<blk>", "a", "b"), "ctc", 1)
    student("TDNNStudent", FrontEnd.from_dict({"preset": "sherpa"}), units, folder / "student.pt")
    with hub() as server, pytest.MonkeyPatch.context() as patch:
        files = {str(path.relative_to(store)): path.read_bytes() for path in Path(store).rglob("*") if path.is_file()}
        server.datasets["me/tones"] = files
        patch.setenv("HF_ENDPOINT", server.endpoint)
        yield found


Arguments = Callable[[Place, Path], list[object]]

# A new file or folder: what is given as its place must not be spoilt either.
MAKES: dict[str, Arguments] = {
    "align": lambda p, out: ["align", p.corpus / "stores/labeled", out, "--lexicon", p.lexicon, "--states-per-phone", 1],
    "corpus look": lambda p, out: ["corpus", "look", p.corpus / "unlabeled.jsonl.gz", out],
    "corpus measure": lambda p, out: ["corpus", "measure", p.corpus / "unlabeled.jsonl.gz", f"{out}.jsonl"],
    "decode": lambda p, out: ["decode", p / "run", p.corpus / "labeled.jsonl.gz", out, "--lexicon", p.lexicon],
    "transcribe": lambda p, out: ["transcribe", p / "run", p.corpus / "unlabeled.jsonl.gz", "--out", out, "--lexicon", p.lexicon],
    "demo": lambda p, out: ["demo", out],
    "export onnx": lambda p, out: ["export", "onnx", p / "run", out, "--type", "float32"],
    "export sherpa": lambda p, out: ["export", "sherpa", f"checkpoint:{p / 'student.pt'}", out],
    "export executorch": lambda p, out: ["export", "executorch", f"checkpoint:{p / 'student.pt'}", out],
    "export web": lambda p, out: ["export", "web", f"checkpoint:{p / 'student.pt'}", out, "--runtime", p / "runtime.tgz"],
    "label codebooks": lambda p, out: [
        "label", "codebooks", p.corpus / "unlabeled.jsonl.gz", out, "--teacher", p.teacher, "--layer", "output",
        "--count", 1, "--entries", 2, "--max-frames", 50,
    ],
    "label plan": lambda p, out: ["label", "plan", p.corpus / "unlabeled.jsonl.gz", out],
    "report": lambda p, out: ["report", p.corpus / "stores/labeled", out],
    "segment": lambda p, out: ["segment", p.corpus / "unlabeled.jsonl.gz", f"{out}.jsonl", "--vad", "energy"],
    "store pull": lambda p, out: ["store", "pull", "me/tones", out],
    "store to-lhotse": lambda p, out: ["store", "to-lhotse", p.corpus / "stores/labeled", out],
    "store to-nemo": lambda p, out: ["store", "to-nemo", p.corpus / "stores/labeled", out],
    "store compact": lambda p, out: ["store", "compact", p.corpus / "stores/labeled", out],
    "tokens": lambda p, out: ["tokens", p.corpus / "labeled.jsonl.gz", out, "--kind", "characters"],
    "train": lambda p, out: ["train", p / "train.yaml", f"run={out}"],
    "weigh": lambda p, out: ["weigh", p / "ensemble.yaml", p / "aligned", out],
}  # fmt: skip

# A store that is there, and the folder in it that is written to: (store, folder, arguments).
CHANGES: dict[str, tuple[str, str, Arguments]] = {
    "label grow": ("finished", "plan", lambda p, store: ["label", "grow", p.corpus / "labeled.jsonl.gz", store]),
    "label retry": ("finished", "shards", lambda p, store: ["label", "retry", store, "--readers", 0]),
    "label run": ("planned", "shards", lambda p, store: ["label", "run", store, "--readers", 0]),
    "label work": ("planned", "leases", lambda p, store: ["label", "work", store, "--index", 0, "--readers", 0]),
    "store delete": ("finished", "deleted", lambda p, store: ["store", "delete", store, "--id", "unlabeled-3"]),
    "store index": ("finished", "catalog", lambda p, store: ["store", "index", store]),
    "store snapshot": ("finished", "snapshots", lambda p, store: ["store", "snapshot", store, "now"]),
}  # fmt: skip

# To the terminal alone.
SHOWS: dict[str, Arguments] = {
    "estimate": lambda p, _: [
        "estimate", p.corpus / "unlabeled.jsonl.gz", "--hours", 1, "--teacher", p.teacher, "--readers", 0,
        "--sample-minutes", 0.1,
    ],
    "doctor": lambda p, _: ["doctor"],
    "live": lambda p, _: ["live", p / "run", next((p.corpus / "audio").rglob("*.flac")), "--lexicon", p.lexicon],
    "export card": lambda p, _: ["export", "card", p / "run", "--name", "x"],
    "label status": lambda p, _: ["label", "status", p / "finished"],
    "score": lambda p, _: ["score", p / "hyp.txt", p / "hyp.txt"],
    "store card": lambda p, _: ["store", "card", p / "finished", "--name", "x"],
    "store head": lambda p, _: ["store", "head", p / "finished"],
    "store info": lambda p, _: ["store", "info", p / "finished"],
    "store push": lambda p, _: ["store", "push", p.corpus / "stores/labeled", "me/tones", "--dry-run"],
    "store stats": lambda p, _: ["store", "stats", p / "finished"],
    "store verify": lambda p, _: ["store", "verify", p.corpus / "stores/labeled"],
}  # fmt: skip


def test_no_command_is_forgotten() -> None:
    assert sorted(command_paths(cli)) == sorted([*MAKES, *CHANGES, *SHOWS])


def ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[object]
) -> tuple[int, str]:
    """The exit code, and the line that says why."""
    monkeypatch.setattr("sys.argv", ["asrkd", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run_command(cli)
    said = capsys.readouterr().err
    assert stop.value.code in (1, 2) and "Traceback" not in said, said
    lines = [
        line
        for line in said.splitlines()
        if not re.match(
            r"((align|audio|compact|decode|flat start|label|measure|plan|retry|segment|train|transcribe|verify)[^:]*(: \d|$)|decoder )",
            line,
        )
    ]
    if stop.value.code == 1:
        assert len(lines) == 1 and lines[0].startswith("asrkd: "), said
    return int(stop.value.code), lines[-1]


@pytest.fixture(scope="module")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A folder that cannot be written to, and one that is full; empty where nothing may be mounted."""
    found = {}
    for name in ("read-only", "full"):
        folder = tmp_path_factory.mktemp(name)
        if (
            os.geteuid()
            or subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=16k,mode=777", "tmpfs", folder], capture_output=True
            ).returncode
        ):
            break
        found[name] = folder
    if "full" in found:
        subprocess.run(["mount", "-o", "remount,ro", found["read-only"]], check=True)
        fill(found["full"])
    yield found
    for folder in found.values():
        subprocess.run(["umount", folder], check=True)


def bad_places(folder: Path, mounts: dict[str, Path]) -> dict[str, tuple[Path, str]]:
    """By kind: a place that cannot be written to, and what is said of it."""
    (folder / "file").write_text("precious\n")
    places = {
        "below a file": (folder / "file/below", "Not a directory"),
        "far below a file": (folder / "file/below/far", "Not a directory"),
        "no such device": (Path("/proc/asrkd/out"), "No such file|not permitted|Permission denied"),
        "name too long": (folder / ("n" * 300), "name too long"),
    }
    if mounts:
        places["read-only"] = (mounts["read-only"] / folder.name, "Read-only file system")
        places["full"] = (mounts["full"] / folder.name, "No space left")
    return places


@pytest.mark.parametrize("command", MAKES)
def test_what_cannot_be_made_is_one_line(
    command: str, place: Place, mounts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for kind, (out, why) in bad_places(tmp_path, mounts).items():
        code, said = ended(capsys, monkeypatch, MAKES[command](place, out))
        assert re.search(why, said), (kind, said)
        assert code == 1
        try:
            assert not [path for path in out.rglob("*") if path.is_file()], kind
        except OSError:
            pass
    assert (tmp_path / "file").read_text() == "precious\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", MAKES)
def test_a_file_where_a_folder_belongs_and_the_reverse(
    command: str, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / ("out.jsonl" if command in ("segment", "corpus measure") else "out")
    if command in ("corpus look", "corpus measure", "label codebooks", "report", "segment", "transcribe", "weigh"):
        made.mkdir()
        (made / "kept").write_text("precious\n")
    else:
        made.write_text("precious\n")
    _, said = ended(capsys, monkeypatch, MAKES[command](place, tmp_path / "out"))
    assert re.search("s a directory|s a file|Not a directory|File exists", said), said
    kept = made / "kept" if made.is_dir() else made
    assert kept.read_text() == "precious\n" and len(list(tmp_path.rglob("*"))) == 1 + made.is_dir()


@pytest.mark.parametrize("command", CHANGES)
def test_a_store_that_cannot_be_changed_stays_as_it_is(
    command: str, place: Place, mounts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name, folder, arguments = CHANGES[command]
    store = tmp_path / "store"
    shutil.copytree(place / name, store)
    if not (store / folder).exists():
        (store / folder).write_text("a file where a folder belongs\n")
        _, said = ended(capsys, monkeypatch, arguments(place, store))
        assert re.search("Not a directory|File exists|Is a directory", said), said
        assert (store / folder).read_text() == "a file where a folder belongs\n"
    if not mounts:
        return
    shutil.rmtree(store)
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", store], check=True)
    try:
        shutil.copytree(place / name, store, dirs_exist_ok=True)
        fill(store)
        before = content(store)
        for options, why in (("remount,ro", "Read-only file system"), ("remount,rw", "No space left")):
            subprocess.run(["mount", "-o", options, store], check=True)
            _, said = ended(capsys, monkeypatch, arguments(place, store))
            assert re.search(why, said), said
            assert content(store) == before
    finally:
        gc.collect()  # a mapped catalog in the frames of an error keeps the disk busy
        subprocess.run(["umount", store], check=True)


def fill(folder: Path) -> None:
    try:
        with open(folder / "filler", "wb", buffering=0) as stream:
            while stream.write(bytes(1024)):
                pass
    except OSError:
        pass


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", [*SHOWS, "label plan", "label run"])
def test_a_full_disk_behind_the_standard_output_is_one_line(
    command: str, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (SHOWS | MAKES | {"label run": lambda p, _: ["label", "run", p.corpus / "stores/labeled"]})[command]
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        code, said = ended(capsys, monkeypatch, arguments(place, tmp_path / "out"))
        monkeypatch.undo()
        full.close = lambda: None  # type: ignore[method-assign]
    assert code == 1 and "'standard output': No space left" in said


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(place: Place, asrkd_command: Callable[..., list[str]]) -> None:
    read, write = os.pipe()
    os.close(read)
    found = subprocess.run(
        asrkd_command("store", "info", place / "finished"), stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert found.returncode == 141 and found.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_no_error(place: Place, closed: str) -> None:
    script = f"import os; os.close({1 if closed == 'stdout' else 2}); os.execvp({sys.executable!r}, ['python', '-c', 'from asrkd.__main__ import main; main()', 'store', 'info', {str(place / 'finished')!r}])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0 and "Traceback" not in found.stderr
