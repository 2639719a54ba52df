"""tools/kubernetes: valid under the schema of Kubernetes, and its pods' command really run."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helpers import make_environment, make_teacher

from asrkd.extras import EXTRAS
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.verify import verify

MANIFEST = Path(__file__).parents[2] / "tools/kubernetes/label.yaml"


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return yaml.safe_load(MANIFEST.read_text())


@pytest.mark.parametrize("version", ["1.31", "1.34"])
def test_the_manifest_is_of_the_schema(job: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(job, version, strict=True)
    wrong = yaml.safe_load(MANIFEST.read_text())
    wrong["spec"]["completion"] = 8
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_the_image_is_that_of_the_dockerfile(job: dict[str, Any]) -> None:
    """What it copies is there, its extras are declared, and the name that it is built under is the job's."""
    dockerfile = (MANIFEST.parent / "Dockerfile").read_text()
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert f"-t {container['image']} " in dockerfile
    for sources in re.findall(r"^COPY (.+) \S+$", dockerfile, re.M):
        assert all((MANIFEST.parents[2] / source).exists() for source in sources.split())
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", dockerfile, re.M)
    assert set(extras.split(",")) <= set(EXTRAS)


def test_the_number_of_pods_is_one_number(job: dict[str, Any]) -> None:
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    count = int(command[command.index("--count") + 1])
    assert count == job["spec"]["completions"] == job["spec"]["parallelism"]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_pods_label_a_store(job: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path / "final.pt")
    whole, root = tmp_path / "whole", tmp_path / "store"
    for folder in (whole, root):
        plan(str(corpus / "unlabeled.jsonl.gz"), str(folder), teacher=teacher, unit_hours=0.001)
    run(Local(Store.open(str(whole))))
    container = job["spec"]["template"]["spec"]["containers"][0]
    programs = make_environment(tmp_path / "image") / "bin"
    command = [str(root) if part.startswith("s3://") else part for part in container["command"]]
    fixed = {one["name"]: one["value"] for one in container["env"]}
    pods = []
    for index in (0, 5):  # the others were never scheduled
        environment = (
            os.environ | fixed | {"JOB_COMPLETION_INDEX": str(index), "PATH": f"{programs}:{os.environ['PATH']}"}
        )
        pods.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    for pod in pods:
        _, errors = pod.communicate(timeout=150)
        assert pod.returncode == 0, errors
    assert verify(str(root)) == []
    found = [{path.name: path.read_bytes() for path in (folder / "shards").iterdir()} for folder in (root, whole)]
    assert found[0] == found[1]
