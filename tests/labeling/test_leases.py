from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_server import S3Server

from asrkd.labeling.leases import Leases, lease_name
from asrkd.store.files import Files


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, s3: S3Server, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "disk" else s3.uri(tmp_path.name)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_file_is_created_once(root: str) -> None:
    assert Files(root).create("leases/a.json", b"one") and not Files(root).create("leases/a.json", b"two")
    assert Files(root).read("leases/a.json") == b"one"


def test_a_dead_owner_is_found_by_the_observers_clock_alone(root: str) -> None:
    """The clocks of the two tasks are an hour apart."""
    clocks = Clock(0.0), Clock(3600.0)
    first, second = (Leases(Files(root), 10.0, clock=clock) for clock in clocks)
    assert first.claim(3) and not second.claim(3) and first.holds(3) and not second.holds(3)
    clocks[1].now += 9.0
    assert not second.claim(3)
    with first.beating():  # no beat yet: its thread waits for a quarter of 10 s
        assert first.holds(3)
    assert not Files(root).exists(lease_name(3)) and second.claim(3)
    clocks[0].now += 1.0
    assert not first.claim(3)
    clocks[0].now += 10.0
    assert first.claim(3) and not second.holds(3)


def test_a_beat_keeps_the_lease(tmp_path: Path) -> None:
    clock = Clock(0.0)
    owner, other = Leases(Files(str(tmp_path)), 0.2), Leases(Files(str(tmp_path)), 10.0, clock=clock)
    assert owner.claim(0)
    with owner.beating():
        beats = set()
        for _ in range(3):
            beats.add(json.loads((tmp_path / lease_name(0)).read_bytes())["beat"])
            assert not other.claim(0)
            clock.now += 20.0
            time.sleep(0.3)
    assert len(beats) > 1


def test_an_owner_that_lost_its_lease_leaves_it_alone(tmp_path: Path) -> None:
    clock = Clock(0.0)
    stalled, other = Leases(Files(str(tmp_path)), 0.2), Leases(Files(str(tmp_path)), 10.0, clock=clock)
    assert stalled.claim(0) and not other.claim(0)
    clock.now += 10.0
    with stalled.beating():
        assert other.claim(0)
        time.sleep(0.3)
        assert not stalled.holds(0)
    assert other.holds(0)


def test_tasks_that_claim_and_give_up_all_the_time_never_fail_and_hold_a_unit_alone(tmp_path: Path) -> None:
    """A lease comes and goes between any two looks of another task."""
    alone = threading.Lock()

    def work(task: int) -> int:
        leases, claimed = Leases(Files(str(tmp_path)), 60.0), 0
        for _ in range(300):
            if leases.claim(0):
                assert alone.acquire(blocking=False) and leases.holds(0)
                claimed += 1
                alone.release()
                leases.release(0)
        return claimed

    with ThreadPoolExecutor(4) as tasks:
        assert sum(tasks.map(work, range(4))) > 0
    assert not (tmp_path / lease_name(0)).exists()


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("there", [False, True], ids=["comes", "goes"])
def test_a_lease_that_comes_or_goes_before_any_request_of_a_claim(
    s3: S3Server, there: bool, at: int, tmp_path: Path
) -> None:
    leases, other = (Leases(Files(s3.uri(tmp_path.name)), 60.0) for _ in range(2))
    assert not there or other.claim(0)
    requests = itertools.count()

    def meanwhile(number: int, method: str, path: str) -> None:
        if next(requests) == at:
            with s3.faults(lambda number, method, path: None):
                other.release(0) if there else other.claim(0)

    with s3.faults(meanwhile):
        claimed = leases.claim(0)
    assert claimed == leases.holds(0) and not (claimed and other.holds(0))


def test_a_file_that_another_removed_is_gone(root: str) -> None:
    files = Files(root)
    assert files.read_or_none("leases/a.json") is None
    files.remove("leases/a.json")
    files.write("leases/a.json", b"one")
    assert files.read_or_none("leases/a.json") == b"one"
    files.remove("leases/a.json")
    assert files.read_or_none("leases/a.json") is None and files.list("leases", ".json") == []
