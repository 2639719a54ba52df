"""tools/slurm under a real Slurm. Opt-in (`pytest -m slurm`): its daemons need root and Debian's slurm-wlm."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import make_environment, make_teacher
from slurm_server import SlurmServer, missing

from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.verify import verify

SCRIPT = Path(__file__).parents[2] / "tools/slurm/label.sbatch"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmServer]:
    if missing():
        pytest.fail(f"asked for with -m slurm, but {missing()}")
    server = SlurmServer(tmp_path_factory.mktemp("slurm"), cpus=6)
    yield server
    server.close()


def shards(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "shards").glob("*.parquet"))}


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(280)
def test_an_array_labels_a_store_and_takes_over_from_a_killed_task(
    slurm: SlurmServer, corpus: Path, tmp_path: Path
) -> None:
    teacher = make_teacher(tmp_path / "final.pt")
    whole, root = tmp_path / "whole", tmp_path / "store"
    for folder in (whole, root):
        plan(str(corpus / "unlabeled.jsonl.gz"), str(folder), teacher=teacher, unit_hours=0.0005)
    run(Local(Store.open(str(whole))))
    environment = {"ASRKD_ENVIRONMENT": str(make_environment(tmp_path / "venv")), "PYTHONPATH": str(SCRIPT.parents[2])}
    submit = ("sbatch", "--parsable", "--array=5-7", f"--output={tmp_path}/log-%a", str(SCRIPT), str(root))
    job = slurm.command(*submit, **environment).strip()
    while not list(root.glob("leases/*.json")):
        time.sleep(0.05)
    slurm.command("scancel", "--signal=KILL", "--full", f"{job}_6")
    wait_for(slurm, job)
    logs = "\n".join(path.read_text() for path in sorted(tmp_path.glob("log-*")))
    assert shards(root) == shards(whole) and verify(str(root)) == [], logs
    assert "Traceback" not in logs and re.search(r"label: \d+/10, .* unit \d", logs)
    again = slurm.command(*submit[:2], "--array=0", *submit[3:], **environment).strip()
    wait_for(slurm, again)
    assert f"{len(shards(whole))} were finished before" in (tmp_path / "log-0").read_text()


def wait_for(slurm: SlurmServer, job: str) -> None:
    while slurm.command("squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%T").strip() and any(
        state in slurm.command("squeue", "--noheader", "--format=%T") for state in ("PENDING", "RUNNING", "COMPLETING")
    ):
        time.sleep(0.5)


def test_the_script_says_how_it_is_used() -> None:
    done = subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    environment = os.environ | {"ASRKD_ENVIRONMENT": "/nowhere"}
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, env=environment)
    assert done.returncode != 0 and "/nowhere/bin/activate" in done.stderr
