"""Real processes that share a store and nothing else; some are killed, one sleeps."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import make_teacher
from hypothesis import given
from hypothesis import strategies as st
from lhotse.cut import Cut
from s3_server import S3Server

from asrkd.cli import cli
from asrkd.corpus.audio import read_audio
from asrkd.errors import ConfigError, CorpusError
from asrkd.labeling.array import ArrayBackend, _order
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.labeling.status import status
from asrkd.store import Store
from asrkd.store.files import Files
from asrkd.store.plan import read_cuts
from asrkd.store.verify import verify

UNIT_HOURS = 0.001
Command = Callable[..., list[str]]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pt")


def planned(corpus: Path, root: str, teacher: str) -> str:
    plan(str(corpus / "unlabeled.jsonl.gz"), root, teacher=teacher, embed="audio", unit_hours=UNIT_HOURS)
    return root


@pytest.fixture(scope="module")
def whole(corpus: Path, teacher: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards of an undisturbed run."""
    root = tmp_path_factory.mktemp("whole") / "store"
    run(Local(Store.open(planned(corpus, str(root), teacher))))
    return shards(root)


def shards(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "shards").glob("*.parquet"))}


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_of_eight_tasks_three_die_and_the_others_finish_all(
    corpus: Path, teacher: str, whole: dict[str, bytes], tmp_path: Path, asrkd_command: Command
) -> None:
    root = planned(corpus, str(tmp_path / "store"), teacher)
    rng = random.Random(7)
    command = asrkd_command("label", "work", root, "--lease-seconds", 4)
    tasks = [
        start(command, SLURM_ARRAY_TASK_ID=str(number + 1), SLURM_ARRAY_TASK_COUNT="8", SLURM_ARRAY_TASK_MIN="1")
        for number in range(8)
    ]
    while not list((tmp_path / "store").glob("leases/*.json")):
        time.sleep(0.01)
    killed = rng.sample(range(8), 3)
    for number in killed:
        time.sleep(rng.uniform(0.0, 0.3))
        tasks[number].kill()
    ends = [task.communicate(timeout=250) for task in tasks]
    codes = [task.returncode for task in tasks]
    survivors = [number for number in range(8) if number not in killed]
    assert all(codes[number] == 0 for number in survivors), ends
    assert -signal.SIGKILL in codes
    assert shards(tmp_path / "store") == whole and verify(root) == []
    assert not list((tmp_path / "store").glob("leases/*.json"))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_task_that_sleeps_past_its_lease_does_no_harm(
    corpus: Path, teacher: str, whole: dict[str, bytes], tmp_path: Path, asrkd_command: Command
) -> None:
    root = planned(corpus, str(tmp_path / "store"), teacher)
    options = ("--lease-seconds", 1, "--count", 2, "--index")
    sleeper = start(asrkd_command("label", "work", root, *options, 0))
    while not list((tmp_path / "store").glob("leases/*.json")):
        time.sleep(0.002)
    os.kill(sleeper.pid, signal.SIGSTOP)
    other = start(asrkd_command("label", "work", root, *options, 1))
    _, errors = other.communicate(timeout=100)
    assert other.returncode == 0, errors
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "store/shards").iterdir()}
    assert shards(tmp_path / "store") == whole
    os.kill(sleeper.pid, signal.SIGCONT)
    _, errors = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 0, errors
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store/shards").iterdir()} == stamps


def test_a_task_that_comes_second_with_other_luck_leaves_quarantine_and_shard_in_agreement(
    corpus: Path, teacher: str, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = planned(corpus, str(tmp_path / "store"), teacher)
    unlucky = {str(read_cuts(Files(root), unit)[0]["id"]) for unit in (0, 1)}
    reading, creating = read_audio, Files.create

    def read(cut: Cut, rate: int) -> Any:
        if cut.id in unlucky:
            raise CorpusError(f"cut {cut.id!r}: a disk was away for a while")
        return reading(cut, rate)

    def beaten(files: Files, name: str, data: bytes) -> bool:
        # In between, another task that could read all has created the shard.
        if name.startswith("shards/"):
            creating(files, name, whole[Path(name).name])
        return creating(files, name, data)

    monkeypatch.setattr("asrkd.labeling.reading.read_audio", read)
    monkeypatch.setattr("asrkd.store.files.Files.create", beaten)
    run(ArrayBackend(Store.open(root), 0, 1), max_quarantined=1.0)
    assert shards(tmp_path / "store") == whole
    assert status(Store.open(root)).quarantine == []
    assert verify(root) == []


def test_a_task_behind_the_gap_of_a_list_and_one_that_is_submitted_again_label_everything(
    corpus: Path, teacher: str, whole: dict[str, bytes], tmp_path: Path
) -> None:
    sbatch = {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "5", "SLURM_ARRAY_TASK_STEP": "1"}
    places = {
        "list": sbatch | {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "3"},
        "pod": {"JOB_COMPLETION_INDEX": "7"},
        "again": {"SGE_TASK_ID": "4", "SGE_TASK_FIRST": "4", "SGE_TASK_LAST": "4", "SGE_TASK_STEPSIZE": "1"},
    }
    for name, environment in places.items():
        root = planned(corpus, str(tmp_path / name), teacher)
        for labeled in (len(whole), 0):
            result = CliRunner().invoke(cli, ["label", "work", root, "--readers", "0"], env=environment)
            assert result.exit_code == 0 and f"labeled {labeled} units" in result.output, result.output
        assert shards(tmp_path / name) == whole


def test_a_task_outside_of_an_array_says_what_is_missing(tmp_path: Path) -> None:
    for environment in ({}, {"SGE_TASK_ID": "undefined"}, {"LSB_JOBINDEX": "0"}):
        result = CliRunner().invoke(cli, ["label", "work", str(tmp_path)], env=environment)
        assert result.exit_code == 2 and "--index is missing, and none of SLURM_ARRAY_TASK_ID, " in result.output


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_tasks_share_a_store_on_s3(
    s3: S3Server, corpus: Path, teacher: str, whole: dict[str, bytes], asrkd_command: Command
) -> None:
    root = planned(corpus, s3.uri("array"), teacher)
    tasks = [start(asrkd_command("label", "work", root, "--count", 2, "--index", index)) for index in (0, 1)]
    for task in tasks:
        _, errors = task.communicate(timeout=100)
        assert task.returncode == 0, errors
    stored = s3.objects("array")
    assert {Path(name).name: data for name, data in stored.items() if name.startswith("shards/")} == whole
    assert not [name for name in stored if name.startswith("leases/")]


def test_every_unit_is_in_every_tasks_order_and_own_ones_come_first() -> None:
    orders = [_order(11, index, 3) for index in range(3)]
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert [order[:3] for order in orders] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


@given(planned=st.integers(0, 50), index=st.integers(0, 10**9), count=st.none() | st.integers(1, 10**9))
def test_every_task_has_every_unit_in_its_order_whatever_its_place(planned: int, index: int, count: int | None) -> None:
    assert sorted(_order(planned, index, count)) == list(range(planned))


def test_tasks_of_an_unknown_number_begin_in_different_places() -> None:
    starts = [_order(1000, index, None)[0] for index in range(20)]
    gaps = np.diff(sorted([*starts, 1000]))
    assert len(set(starts)) == 20 and gaps.max() < 3 * 1000 / 20


def test_tasks_that_cannot_be(corpus: Path, teacher: str, tmp_path: Path) -> None:
    root = planned(corpus, str(tmp_path / "store"), teacher)
    with pytest.raises(ConfigError, match="index is -1"):
        ArrayBackend(Store.open(root), index=-1, count=3)
    with pytest.raises(ConfigError, match="count is 0"):
        ArrayBackend(Store.open(root), index=0, count=0)
    for seconds in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=f"lease_seconds is {seconds}"):
            ArrayBackend(Store.open(root), index=0, count=3, lease_seconds=seconds)
    with pytest.raises(ConfigError, match="lease_seconds is 0"):
        ArrayBackend(Store.open(root), index=0, count=3, lease_seconds=0)
