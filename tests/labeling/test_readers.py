"""Decoders that hang and die, in real processes."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from helpers import Deadly, make_cuts, make_teacher
from lhotse import CutSet

from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import AsrkdError, ConfigError
from asrkd.labeling.crew import Crew
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.labeling.readers import Readers
from asrkd.labeling.reading import batches, read_batch
from asrkd.labeling.status import status
from asrkd.store import Store
from asrkd.store.embedding import parse_embedding
from asrkd.store.files import Files
from asrkd.store.identity import Identity
from asrkd.store.verify import verify


def cuts_of(folder: Path, count: int) -> list[dict[str, Any]]:
    make_cuts(folder, "some", count)
    return [cut.to_dict() for cut in CutSet.from_file(folder / "some.jsonl.gz")]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [0, 1, 3])
def test_readers_read_what_a_loop_reads_in_its_order(tmp_path: Path, processes: int) -> None:
    cuts, front_end = cuts_of(tmp_path, 14), FrontEnd()
    readers: Readers[int] = Readers(front_end, parse_embedding("audio"), processes=processes, seconds=60.0)
    parts = [cuts[at : at + 2] for at in range(0, 14, 2)]
    try:
        found = list(readers.read(enumerate(parts)))
    finally:
        readers.close()
    assert [tag for tag, _ in found] == list(range(7))
    for (_, batch), part in zip(found, parts, strict=True):
        expected = read_batch(part, front_end, parse_embedding("audio"))
        assert [one.row for one in batch.heard] == [one.row for one in expected.heard] and batch.bad == {}
        for one, other in zip(batch.heard, expected.heard, strict=True):
            np.testing.assert_array_equal(one.features, other.features)


def test_batches_hold_every_cut_once_within_the_limit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cuts = [{"id": str(n), "duration": float(d)} for n, d in enumerate(rng.uniform(0.5, 90.0, 300))]
    parts = list(batches(cuts, FrontEnd()))
    assert sorted(cut["id"] for part in parts for cut in part) == sorted(cut["id"] for cut in cuts)
    for part in parts:
        longest = max(FrontEnd().frame_law().num_features(int(cut["duration"] * 16000)) for cut in part)
        assert len(part) == 1 or longest * len(part) <= 8000


@pytest.mark.slow
def test_a_cut_that_kills_its_reader_is_bad_and_no_other(tmp_path: Path) -> None:
    cuts = cuts_of(tmp_path, 8)
    deadly = Deadly(samples=cuts[3]["recording"]["num_samples"])
    same = [cut["id"] for cut in cuts if cut["recording"]["num_samples"] == deadly.samples]
    readers: Readers[int] = Readers(deadly, parse_embedding("none"), processes=2, seconds=60.0)
    try:
        found = list(readers.read([(0, cuts[:3]), (1, cuts[3:6]), (2, cuts[6:])]))
    finally:
        readers.close()
    bad = {key: why for _, batch in found for key, why in batch.bad.items()}
    assert list(bad) == same and f"died (exit code -{signal.SIGSEGV.value})" in bad["some-3"]
    heard = [one.row["id"] for _, batch in found for one in batch.heard]
    assert heard == [cut["id"] for cut in cuts if cut["id"] not in same]


@contextmanager
def hanging(file: Path) -> Iterator[None]:
    """Whoever opens the file waits: for 45 s the kernel asks the holder of a lease to give it up."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    handle = os.open(file, os.O_RDWR)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield
    finally:
        os.close(handle)
        signal.signal(signal.SIGIO, before)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_decoder_that_hangs_is_ended_and_its_cut_put_into_quarantine(tmp_path: Path) -> None:
    make_cuts(tmp_path, "some", 6)
    teacher = make_teacher(tmp_path / "final.pt")
    root = str(tmp_path / "store")
    plan(str(tmp_path / "some.jsonl.gz"), root, teacher=teacher)
    with hanging(tmp_path / "audio/some/some-2.flac"):
        run(Local(Store.open(root), Crew(readers=1, read_seconds=2.0)), max_quarantined=0.5)
    found = status(Store.open(root))
    assert found.utterances == 5 and verify(root) == []
    [(key, reason)] = found.quarantine
    assert key == "some-2" and "reading it took more than 2 s; repair the recording" in reason


@pytest.mark.timeout(60)
def test_closing_does_not_wait_for_a_reader_that_hangs(tmp_path: Path) -> None:
    cuts = cuts_of(tmp_path, 2)
    readers: Readers[int] = Readers(FrontEnd(), parse_embedding("none"), processes=1, seconds=1000.0)
    ends: list[BaseException] = []

    def consume() -> None:
        try:
            list(readers.read([(0, cuts)]))
        except RuntimeError as error:
            ends.append(error)

    thread = threading.Thread(target=consume)
    with hanging(tmp_path / "audio/some/some-0.flac"):
        thread.start()
        time.sleep(0.5)
        readers.close()
        thread.join(20)
    assert not thread.is_alive() and "closed" in str(ends[0])


class Unknown(FrontEnd):
    """Not to be found by a process that imports what it is given by name."""


Unknown.__qualname__ = "Nowhere"


@pytest.mark.slow
def test_a_reader_that_cannot_start_is_nobodys_fault(tmp_path: Path) -> None:
    cuts = cuts_of(tmp_path, 2)
    Unknown.__module__ = "nowhere"
    with pytest.MonkeyPatch.context() as patch:
        module = types.ModuleType("nowhere")
        module.Nowhere = Unknown  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "nowhere", module)
        readers: Readers[int] = Readers(Unknown(), parse_embedding("none"), processes=1, seconds=60.0)
        try:
            with pytest.raises(
                AsrkdError, match="a reader process ended with exit code 1, which its own message above explains"
            ):
                list(readers.read([(0, cuts)]))
        finally:
            readers.close()


def test_crews_that_cannot_be() -> None:
    for options, message in (
        ({"workers": 0}, "workers is 0"),
        ({"readers": -1}, "readers is -1"),
        ({"read_seconds": 0}, "read_seconds is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            Crew(**options)  # type: ignore[arg-type]
    for device in ("gpu", ""):
        with pytest.raises(ConfigError, match=f"device '{device}' cannot be used"):
            Crew(devices=[device]).labeler(Store(Files(""), Identity(), {}))


@pytest.fixture(autouse=True)
def _no_reader_is_left() -> Iterator[None]:
    # Python's own tracker of semaphores is to stay, whether or not this test is the first to need it.
    resource_tracker.ensure_running()
    before = set(psutil.Process().children())
    yield
    _, alive = psutil.wait_procs(set(psutil.Process().children()) - before, timeout=10)
    assert not alive
