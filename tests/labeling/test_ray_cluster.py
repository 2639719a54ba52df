"""A real Ray cluster of two nodes on this machine: actors, nodes and drivers are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
import yaml
from helpers import make_environment, make_teacher
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.cluster_utils import Cluster

from asrkd.errors import AsrkdError, ConfigError, MismatchError
from asrkd.labeling.crew import Crew
from asrkd.labeling.job import Tally, run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.labeling.ray_cluster import RayCluster, Resources
from asrkd.labeling.worker import UnitResult
from asrkd.store import Store
from asrkd.store.verify import verify

UNIT_HOURS = 0.0003
TOOLS = Path(__file__).parents[2] / "tools/ray"
# Sleeps, so that something is left to do when its worker is killed; kills its own worker where a file says so.
TEACHER = """
import os, time, torch
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.acoustic import AcousticModel

class Slow(torch.nn.Module):
    def forward(self, features, lengths):
        time.sleep(0.25)
        if os.path.exists(os.environ["DEADLY"]):
            os.kill(os.getpid(), 9)
        return features[..., :3].cumsum(1), lengths

def make():
    return AcousticModel(Slow(), FrontEnd(), Inventory(("<blk>", "a", "b"), "ctc"), 1, "slow", "f" * 32)
"""


def shards(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "shards").glob("*.parquet"))}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "slow_ray_teacher.py").write_text(TEACHER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("DEADLY", str(folder / "deadly"))
        # A new process of its own would otherwise be made for each of them.
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        yield "python:slow_ray_teacher:make"


def planned(corpus: Path, root: Path, teacher: str) -> Path:
    plan(str(corpus / "unlabeled.jsonl.gz"), str(root), teacher=teacher, codec="topk:2", unit_hours=UNIT_HOURS)
    return root


@pytest.fixture(scope="module")
def whole(corpus: Path, teacher: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards of an undisturbed run without Ray."""
    root = planned(corpus, tmp_path_factory.mktemp("whole") / "store", teacher)
    run(Local(Store.open(str(root))))
    return shards(root)


@pytest.fixture
def cluster(teacher: str) -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_lost_node_and_a_killed_actor_lose_nothing(
    corpus: Path, teacher: str, whole: dict[str, bytes], cluster: Cluster, tmp_path: Path
) -> None:
    second = cluster.add_node(num_cpus=2)
    cluster.connect()
    root = planned(corpus, tmp_path / "store", teacher)
    seen: list[int] = []

    def disturb(tally: Tally, result: UnitResult) -> None:
        seen.append(result.unit)
        if len(seen) == 3:
            cluster.remove_node(second, allow_graceful=False)
        if len(seen) == 8:
            actors = [
                one for one in psutil.process_iter(["cmdline"]) if "ray::_Worker" in " ".join(one.info["cmdline"] or [])
            ]
            assert actors
            for actor in actors:
                actor.kill()

    summary = run(RayCluster(Store.open(str(root)), Crew(workers=2), resources=Resources(cpus=2)), progress=disturb)
    assert summary.labeled == len(whole) == len(shards(root)) > 10
    assert sorted(set(seen)) == list(range(len(whole)))
    assert shards(root) == whole and verify(str(root)) == []
    assert run(RayCluster(Store.open(str(root)))).found == len(whole)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_driver_that_was_killed_goes_on(
    corpus: Path, teacher: str, whole: dict[str, bytes], cluster: Cluster, tmp_path: Path
) -> None:
    root = planned(corpus, tmp_path / "store", teacher)
    programs = make_environment(tmp_path / "venv") / "bin"
    environment = os.environ | {"RAY_ADDRESS": cluster.address, "PATH": f"{programs}:{os.environ['PATH']}"}
    command = ["bash", str(TOOLS / "label.sh"), str(root), "1"]
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while driver.poll() is None and len(shards(root)) < 2:
        time.sleep(0.05)
    driver.kill()
    driver.communicate()
    assert driver.returncode == -signal.SIGKILL and 2 <= len(shards(root)) < len(whole)
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0 and "label:" in again.stderr, again.stderr
    assert shards(root) == whole and verify(str(root)) == []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_what_goes_wrong_in_a_worker_is_told(corpus: Path, teacher: str, tmp_path: Path) -> None:
    root = planned(corpus, tmp_path / "store", teacher)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(ConfigError, match="device 'gpu' cannot be used"):
            run(RayCluster(Store.open(str(root)), Crew(devices=["gpu"])))
        deadly = Path(os.environ["DEADLY"])
        deadly.touch()
        try:
            with pytest.raises(
                AsrkdError, match="unit 0 failed 3 times with its worker, so it is likely to be the cause"
            ):
                run(RayCluster(Store.open(str(root))))
        finally:
            deadly.unlink()
        assert run(RayCluster(Store.open(str(root)))).found == 0 and verify(str(root)) == []
    finally:
        ray.shutdown()
    spec = make_teacher(tmp_path / "final.pt")
    other = planned(corpus, tmp_path / "other", spec)
    make_teacher(tmp_path / "final.pt", seed=1)
    with pytest.raises(ConfigError, match="a worker wants 1 GPUs, but this machine gives Ray 0"):
        run(RayCluster(Store.open(str(other)), resources=Resources(gpus=1)))
    with pytest.raises(MismatchError, match="targets of two teachers"):
        run(RayCluster(Store.open(str(other))))
    with pytest.raises(ConfigError, match="0 CPUs and 0 GPUs"):
        Resources(0, 0)


def test_the_cluster_file_is_rays() -> None:
    content = yaml.safe_load((TOOLS / "cluster.yaml").read_text())
    validate_config(prepare_config(content))
    with pytest.raises(Exception, match="worker_ip"):
        validate_config(prepare_config(content | {"provider": {"type": "local", "head_ip": "a", "worker_ip": ["b"]}}))
