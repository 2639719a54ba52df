from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner
from helpers import kill_at_random, make_cuts, make_teacher
from lhotse import CutSet

from asrkd.acoustic import AcousticModel, load_model
from asrkd.cli import cli
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.errors import ConfigError, CorpusError, MismatchError, StoreError
from asrkd.labeling.crew import Crew
from asrkd.labeling.job import retry, run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.labeling.status import status
from asrkd.labeling.teacher_identity import teacher_identity
from asrkd.store import Store
from asrkd.store.verify import verify
from asrkd.targets.codecs import parse_codec
from asrkd.targets.streams import POSTERIORS


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_teacher(tmp_path_factory.mktemp("teacher") / "final.pt")


SLOW = """
import time, torch
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.acoustic import AcousticModel

class Slow(torch.nn.Module):
    def forward(self, features, lengths):
        time.sleep(0.4)
        return features[..., :3].cumsum(1), lengths

def slow():
    return AcousticModel(Slow(), FrontEnd(), Inventory(("<blk>", "a", "b"), "ctc"), 1, "slow", "f" * 32)
"""


@pytest.fixture
def slow_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A teacher that thinks for a while about each batch, here and in processes that are started."""
    (tmp_path / "slow_teacher.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return "python:slow_teacher:slow"


def shards(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "shards").glob("*.parquet"))}


def planned(corpus: Path, root: Path, teacher: str, **options: Any) -> Path:
    given = {"teacher": teacher, "embed": "audio", "unit_hours": 0.001} | options
    plan(str(corpus / "unlabeled.jsonl.gz"), str(root), **given)
    return root


def test_targets_are_those_of_a_plain_loop(corpus: Path, teacher: str, tmp_path: Path) -> None:
    root = planned(corpus, tmp_path / "store", teacher, codec="dense")
    run(Local(Store.open(str(root))))
    store, model = Store.open(str(root)), load_model(teacher)
    cuts = list(CutSet.from_file(corpus / "unlabeled.jsonl.gz"))
    rows = list(store.rows())
    assert [row["id"] for row in rows] == [cut.id for cut in cuts]
    for cut, row in zip(cuts, rows, strict=True):
        features = model.front_end(torch.from_numpy(cut.load_audio()[0]))
        expected, _ = model.log_probs(features[None], torch.tensor([len(features)]))
        np.testing.assert_allclose(store.targets(row).to_dense(), expected[0].numpy(), atol=2e-5)
        assert row["speaker"] == cut.supervisions[0].speaker and row["text"] is None
    assert verify(str(root)) == []
    found = status(Store.open(str(root)))
    assert found.units == found.units_done == int(store.plan["num_units"]) > 5
    assert found.utterances == found.cuts == 20


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(corpus: Path, teacher: str, tmp_path: Path) -> None:
    for workers in (1, 2):
        run(
            Local(
                Store.open(str(planned(corpus, tmp_path / str(workers), teacher))),
                Crew(workers=workers, readers=workers - 1),
            )
        )
    assert shards(tmp_path / "1") == shards(tmp_path / "2")
    for name in ("plan/part-00000.jsonl.gz", "manifest.json", "inventory.txt"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_labeling_killed_ten_times_ends_with_the_same_bytes(slow_spec: str, tmp_path: Path, asrkd_command: Any) -> None:
    """A hundred times, on every backend: tools/benchmarks/kills.py."""
    # Units to spare: on a busy machine several are finished before this process sees the first.
    make_cuts(tmp_path, "unlabeled", 40, text=False)
    whole, killed = (planned(tmp_path, tmp_path / name, slow_spec, unit_hours=0.0002) for name in ("whole", "killed"))
    run(Local(Store.open(str(whole))))
    command = asrkd_command("label", "run", killed, "--readers", 0)
    assert kill_at_random(command, kills=10, seed=2, watch=lambda: len(shards(killed))) == 10
    assert shards(killed) == shards(whole) and len(shards(whole)) > 30


def test_a_finished_unit_is_kept_and_a_foreign_shard_refused(corpus: Path, teacher: str, tmp_path: Path) -> None:
    root = planned(corpus, tmp_path / "store", teacher)
    run(Local(Store.open(str(root))))
    stamps = {path: path.stat().st_mtime_ns for path in (root / "shards").iterdir()}
    (root / "shards/part-00002.parquet").unlink()
    assert run(Local(Store.open(str(root)))).labeled == 1
    assert {p: s for p, s in stamps.items() if p.stat().st_mtime_ns != s}.keys() == {root / "shards/part-00002.parquet"}
    other = planned(corpus, tmp_path / "other", make_teacher(tmp_path / "other.pt", seed=1))
    run(Local(Store.open(str(other))))
    (root / "shards/part-00001.parquet").write_bytes((other / "shards/part-00001.parquet").read_bytes())
    with pytest.raises(MismatchError, match="part-00001.*teacher_fingerprint"):
        run(Local(Store.open(str(root))))


def test_a_teacher_that_changed_since_the_plan_is_refused(corpus: Path, tmp_path: Path) -> None:
    spec = make_teacher(tmp_path / "final.pt")
    root = planned(corpus, tmp_path / "store", spec)
    before = Store.open(str(root)).identity.teacher_fingerprint
    make_teacher(tmp_path / "final.pt", seed=3)
    with pytest.raises(MismatchError, match=f"fingerprint .*planned with {before[:12]}"):
        run(Local(Store.open(str(root))))


def test_plans_are_refused(corpus: Path, teacher: str, tmp_path: Path) -> None:
    cuts = str(corpus / "unlabeled.jsonl.gz")
    planned(corpus, tmp_path / "store", teacher)
    with pytest.raises(StoreError, match="is a store already"):
        planned(corpus, tmp_path / "store", teacher)
    doubled = list(CutSet.from_file(cuts)) * 2
    CutSet(doubled).to_file(tmp_path / "doubled.jsonl.gz")
    with pytest.raises(CorpusError, match="'unlabeled-0' of .* occurs twice"):
        plan(str(tmp_path / "doubled.jsonl.gz"), str(tmp_path / "new"), teacher=teacher)
    assert not (tmp_path / "new/manifest.json").exists()
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(CorpusError, match="no cuts"):
        plan(str(tmp_path / "empty.jsonl"), str(tmp_path / "new"), teacher=teacher)
    with pytest.raises(ConfigError, match="unit_hours is 0"):
        plan(cuts, str(tmp_path / "new"), teacher=teacher, unit_hours=0)
    with pytest.raises(ConfigError, match="without a teacher"):
        plan(cuts, str(tmp_path / "new"), codec="topk:20", embed="audio")
    with pytest.raises(ConfigError, match="'zip'"):
        plan(cuts, str(tmp_path / "new"), teacher=teacher, codec="zip")


def test_bad_cuts_go_to_quarantine_up_to_a_share(teacher: str, tmp_path: Path) -> None:
    make_cuts(tmp_path, "some", 10)
    (tmp_path / "audio/some/some-3.flac").unlink()
    damaged = tmp_path / "audio/some/some-5.flac"
    damaged.write_bytes(damaged.read_bytes()[:300])
    cuts = list(CutSet.from_file(tmp_path / "some.jsonl.gz"))
    cuts[7].duration += 5.0
    CutSet(cuts).to_file(tmp_path / "bad.jsonl.gz")
    root = str(tmp_path / "store")
    plan(str(tmp_path / "bad.jsonl.gz"), root, teacher=teacher, unit_hours=0.001)
    with pytest.raises(CorpusError, match="of 10 cuts cannot be labeled.*'some-3'"):
        run(Local(Store.open(root)))
    run(Local(Store.open(root)), max_quarantined=0.3)
    found = status(Store.open(root))
    assert [key for key, _ in found.quarantine] == ["some-3", "some-5", "some-7"]
    assert "is 1." in found.quarantine[2][1] or "long" in found.quarantine[2][1]
    assert found.utterances == 7 and verify(root) == []
    with pytest.raises(CorpusError, match="3 of 10 cuts"):  # also when all units are finished
        run(Local(Store.open(root)))


@pytest.mark.slow
def test_mended_audio_comes_in_by_a_retry(teacher: str, tmp_path: Path) -> None:
    make_cuts(tmp_path, "some", 10)
    cuts = str(tmp_path / "some.jsonl.gz")
    whole, root = str(tmp_path / "whole"), str(tmp_path / "store")
    for store in (whole, root):
        plan(cuts, store, teacher=teacher, unit_hours=0.001)
    run(Local(Store.open(whole)))
    missing = [tmp_path / f"audio/some/some-{number}.flac" for number in (3, 8)]
    contents = [path.read_bytes() for path in missing]
    for path in missing:
        path.unlink()
    run(Local(Store.open(root)), max_quarantined=0.3)
    untouched = {name: content for name, content in shards(Path(root)).items() if shards(Path(whole))[name] == content}
    missing[0].write_bytes(contents[0])
    assert retry(Local(Store.open(root))) == (2, 1)
    assert [key for key, _ in status(Store.open(root)).quarantine] == ["some-8"] and verify(root) == []
    missing[1].write_bytes(contents[1])
    result = CliRunner().invoke(cli, ["label", "retry", root, "--workers", "2"])
    assert result.exit_code == 0 and "quarantine: 1 cuts before, 0 after" in result.output
    assert (
        shards(Path(root)) == shards(Path(whole))
        and status(Store.open(root)).quarantine == []
        and 0 < len(untouched) < 10
    )
    assert retry(Local(Store.open(root))) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_ends_in_order_within_seconds(
    workers: int, corpus: Path, slow_spec: str, tmp_path: Path, asrkd_command: Any
) -> None:
    root, whole = tmp_path / "store", tmp_path / "whole"
    for store in (root, whole):
        planned(corpus, store, slow_spec)
    run(Local(Store.open(str(whole))))
    command = asrkd_command("label", "run", root, "--workers", workers)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and not shards(root):
        time.sleep(0.05)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)  # as schedulers do: the whole group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "stopped by SIGTERM; finished units are kept" in errors, errors
    assert "Traceback" not in errors and time.monotonic() - began < 10
    done = shards(root)
    assert 0 < len(done) < len(shards(whole))
    assert not [path for path in root.rglob("*") if path.name.endswith(".tmp")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert shards(root) == shards(whole)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_children_of_a_killed_parent_end(corpus: Path, teacher: str, tmp_path: Path, asrkd_command: Any) -> None:
    root = planned(corpus, tmp_path / "store", teacher)
    process = subprocess.Popen(asrkd_command("label", "run", root, "--workers", 2), stderr=subprocess.DEVNULL)
    while process.poll() is None and not shards(root):
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(children) >= 4  # two workers with a reader each
    assert psutil.wait_procs(children, timeout=20)[1] == []


def one_short() -> AcousticModel:
    """A teacher whose output is one frame short."""
    inventory = Inventory(("<blk>", "a", "b"), "ctc")
    return AcousticModel(
        lambda f, n: (torch.zeros(len(f), f.shape[1] - 1, 3), n - 1), FrontEnd(), inventory, 1, "short", "f" * 32
    )


def test_a_teacher_one_frame_short_is_refused_with_both_numbers(corpus: Path, tmp_path: Path) -> None:
    sys.modules["short_teacher"] = sys.modules[__name__]
    with pytest.raises(MismatchError, match=r"gives 11 frames of logits and the length 11 .* make 12 frames"):
        planned(corpus, tmp_path / "store", "python:short_teacher:one_short")
    assert not (tmp_path / "store").exists()


def test_another_codec_or_front_end_is_another_identity(teacher: str) -> None:
    model = load_model(teacher)
    identity = teacher_identity(model, codec=parse_codec("topk:20"), embed="none")
    for changes, name in (
        ({"streams": {POSTERIORS: parse_codec("topk:5")}}, "codec"),
        ({"subsampling_factor": 2}, "subsampling_factor"),
        ({"inventory": Inventory(("a", "b"), "ctc")}, "num_units"),
        ({"inventory": dataclasses.replace(model.inventory, units=identity.units[::-1])}, "inventory_fingerprint"),
    ):
        with pytest.raises(MismatchError, match=f"other store has {name}"):
            identity.check(dataclasses.replace(identity, **changes), what="other store")
    slower = dataclasses.replace(identity, front_end=FrontEnd(stride=4))
    with pytest.raises(MismatchError, match="front_end"):
        identity.check(slower, what="other store")
