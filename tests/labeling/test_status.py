from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner
from helpers import make_cuts, make_teacher

from asrkd.cli import cli
from asrkd.errors import ConfigError, CorpusError, StoreError
from asrkd.labeling import status as labeling_status
from asrkd.labeling.crew import Crew
from asrkd.labeling.estimate import estimate
from asrkd.labeling.job import run
from asrkd.labeling.leases import Leases
from asrkd.labeling.local import Local
from asrkd.labeling.plan import grow, plan
from asrkd.labeling.status import Watch, prometheus, status
from asrkd.store import Store
from asrkd.store.compact import compact
from asrkd.store.delete import delete
from asrkd.store.files import Files
from asrkd.store.plan import PlanTotals


@pytest.fixture
def root(corpus: Path, tmp_path: Path) -> Path:
    teacher = make_teacher(tmp_path / "final.pt")
    plan(str(corpus / "unlabeled.jsonl.gz"), str(tmp_path / "store"), teacher=teacher, unit_hours=0.001)
    return tmp_path / "store"


def test_a_watch_follows_the_shards_and_the_clock(root: Path) -> None:
    watch = Watch(Store.open(str(root)))
    before = watch.look()
    assert (before.units_done, before.hours_done, before.rtfx, before.eta_seconds) == (0, 0.0, None, None)
    run(Local(Store.open(str(root))))
    store = Store.open(str(root))
    seconds = {unit: float(sum(store.column(unit, "duration").to_pylist())) for unit in store.units()}
    total = sum(seconds.values())
    # A unit every ten seconds, the last one just now; two of them not there yet.
    units, now = store.units()[:-2], time.time()
    for unit in store.units()[-2:]:
        (root / f"shards/part-{unit:05d}.parquet").unlink()
    for place, unit in enumerate(reversed(units)):
        os.utime(root / f"shards/part-{unit:05d}.parquet", (now - 10 * place, now - 10 * place))
    found = watch.look()
    assert found.units_done == len(units) == found.units - 2
    speed = sum(seconds[unit] for unit in units[1:]) / (10 * (len(units) - 1))
    assert found.rtfx == pytest.approx(speed, rel=0.05)
    left = total - sum(seconds[unit] for unit in units)
    assert found.eta_seconds == pytest.approx(left / speed, rel=0.05)
    assert found.hours == pytest.approx(total / 3600, rel=0.01)
    run(Local(Store.open(str(root))))
    done = watch.look()
    assert done.units_done == done.units and done.eta_seconds is None and done.utterances == 20


def test_leases_and_reasons_are_shown_and_the_formats_agree(root: Path, tmp_path: Path) -> None:
    make_cuts(tmp_path, "bad", 5)
    for number in (1, 3):
        (tmp_path / f"audio/bad/bad-{number}.flac").unlink()
    short = tmp_path / "audio/bad/bad-4.flac"
    samples, rate = soundfile.read(short)
    soundfile.write(short, samples[: len(samples) // 2], rate)
    store = str(tmp_path / "other")
    plan(str(tmp_path / "bad.jsonl.gz"), store, teacher=f"checkpoint:{tmp_path / 'final.pt'}", unit_hours=0.0003)
    run(Local(Store.open(store)), max_quarantined=1.0)
    clock = [0.0]
    leases = Leases(Files(store), 100.0, clock=lambda: clock[0])
    assert leases.claim(0)
    with leases.beating():
        found = status(Store.open(store))
        assert [(lease.unit, lease.seconds) for lease in found.leased] == [(0, 0.0)] and found.leased[0].owner
        assert sum(found.reasons.values()) == 3 and 2 in found.reasons.values()
        assert all("bad-" not in reason for reason in found.reasons)
        text = CliRunner().invoke(cli, ["label", "status", store]).output
        assert "1 leased" in text and "quarantine 3" in text and "2 x cut '...'" in text
        values = json.loads(CliRunner().invoke(cli, ["label", "status", store, "--json"]).output)
        lines = CliRunner().invoke(cli, ["label", "status", store, "--prometheus"]).output
    metrics = dict(re.findall(r"^(asrkd_label_\w+) (\S+)$", lines, re.M))
    assert float(metrics["asrkd_label_units_done"]) == values["units_done"]
    assert float(metrics["asrkd_label_cuts_quarantined"]) == len(values["quarantine"]) == 3
    assert float(metrics["asrkd_label_bytes"]) == values["num_bytes"] > 0
    assert prometheus(found).count("# TYPE") == len(metrics)
    wrong = CliRunner().invoke(cli, ["label", "status", store, "--json", "--prometheus"])
    assert wrong.exit_code == 2 and "give one" in wrong.output


def test_the_state_is_that_of_the_shards_whoever_tells_it(
    root: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Local(Store.open(str(root))))

    def check() -> None:
        store, found = Store.open(str(root)), status(Store.open(str(root)))
        durations = [value for unit in store.units() for value in store.column(unit, "duration").to_pylist()]
        assert (found.utterances, found.units_done) == (len(durations), store.num_units)
        assert found.hours_done == pytest.approx(sum(durations) / 3600)

    check()
    with monkeypatch.context() as patched:
        patched.setattr(Store, "metadata", lambda *_: pytest.fail("a shard was read"))
        assert status(Store.open(str(root))).utterances == 20
        assert run(Local(Store.open(str(root)))).labeled == 0
    ids = [row["id"] for row in Store.open(str(root)).rows(["id"])]
    delete(Store.open(str(root)), ids=ids[3:5])
    check()
    totals = root / "plan/units.parquet"
    written = totals.read_bytes()
    totals.unlink()  # a store of an earlier version
    check()
    grow(str(corpus / "labeled.jsonl.gz"), Store.open(str(root)), unit_hours=0.001)
    run(Local(Store.open(str(root))))
    assert len(PlanTotals.read(Files(str(root))).cuts) == Store.open(str(root)).num_units
    check()
    compact(Store.open(str(root)), f"{root}-compact", shard_hours=0.003)
    assert status(Store.open(f"{root}-compact")).utterances == status(Store.open(str(root))).utterances
    totals.write_bytes(written[:-9])
    with pytest.raises(StoreError, match=r"units.parquet .* is damaged .* remove it"):
        status(Store.open(str(root)))


def test_of_a_large_quarantine_some_are_named_and_all_are_counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeling_status, "MOST_NAMED", 3)
    monkeypatch.setattr(labeling_status, "_MOST_KINDS", 2)
    quarantine = Store.open(str(root)).quarantine
    reasons = ["cut 'a' is 3 s", "cut 'b' is 4 s", "gone", "lost", "away"]
    for unit in range(2):
        quarantine.write(unit, [(f"{unit}-{n}", reason) for n, reason in enumerate(reasons)])
    found = status(Store.open(str(root)))
    assert found.num_quarantined == 10 and [key for key, _ in found.quarantine] == ["0-0", "0-1", "0-2"]
    assert found.reasons == {"cut '...' is N s": 4, "other reasons": 4, "gone": 2}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_watched_status_ends_with_the_job(root: Path, asrkd_command: Callable[..., list[str]]) -> None:
    watcher = subprocess.Popen(
        asrkd_command("label", "status", root, "--watch", "0.2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watcher.stdout is not None and "units      0 of" in watcher.stdout.readline()
    run(Local(Store.open(str(root))))
    output, errors = watcher.communicate(timeout=60)
    assert watcher.returncode == 0, errors
    units = status(Store.open(str(root))).units
    assert f"units      {units} of {units} done" in output


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_task_that_is_terminated_says_so_and_gives_its_leases_back(
    root: Path, asrkd_command: Callable[..., list[str]]
) -> None:
    command = asrkd_command("label", "work", root, "--index", 0, "--count", 2, "--readers", 0)
    task = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while task.poll() is None and not list(root.glob("leases/*.json")):
        time.sleep(0.002)
    task.send_signal(signal.SIGTERM)
    _, errors = task.communicate(timeout=60)
    # It may have been faster than the signal.
    assert (task.returncode == 143 and "stopped by SIGTERM" in errors) or task.returncode == 0, errors
    assert not list(root.glob("leases/*.json")) and "Traceback" not in errors


def test_an_estimate_is_what_the_whole_then_costs(corpus: Path, root: Path, tmp_path: Path) -> None:
    run(Local(Store.open(str(root))))
    whole = status(Store.open(str(root)))
    teacher = f"checkpoint:{tmp_path / 'final.pt'}"
    cuts = str(corpus / "unlabeled.jsonl.gz")
    # All 20 utterances, behind a warm-up of a fifth of them.
    found = estimate([cuts], hours=whole.hours, teacher=teacher, embed="none", unit_hours=0.001, sample_minutes=10.0)
    assert found.units == pytest.approx(whole.units, abs=2) and 10 < found.sample_seconds < whole.hours * 3600
    assert found.num_bytes == pytest.approx(whole.num_bytes, rel=0.5)
    assert found.worker_hours == pytest.approx(whole.hours / found.rtfx) == 24 * found.days
    assert found.utterances == pytest.approx(whole.utterances, rel=0.3)
    arguments = [
        "estimate",
        cuts,
        "--hours",
        "1000000",
        "--teacher",
        teacher,
        "--sample-minutes",
        "0.2",
        "--readers",
        "0",
    ]
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 0 and "in 1000000 shards" in shown.output and "times real time" in shown.output
    values = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).output)
    assert values["units"] == 1_000_000 and values["num_bytes"] > 1e9 and values["epoch_days"] is None
    assert sum(values["column_bytes"].values()) == pytest.approx(values["num_bytes"])
    assert {"audio", "target_ids_0", "footers"} <= values["column_bytes"].keys()
    assert 0 < values["catalog_bytes"] < 200 * values["utterances"] and values["label_requests"] == 2_000_000
    fleet = ["--nodes", "4", "--devices-per-node", "8", "--student-rtfx", "500", "--student-devices", "16"]
    shown = CliRunner().invoke(cli, [*arguments, *fleet]).output
    days = 1_000_000 / 500 / 16 / 24
    assert (
        "4 nodes of 8 devices" in shown
        and f"epoch      {days:.2f} days" in shown
        and "measured on this machine" in shown
    )
    for wrong in (["--nodes", "0"], ["--student-rtfx", "0"], ["--student-devices", "0"]):
        refused = CliRunner().invoke(cli, [*arguments, *wrong])
        assert refused.exit_code != 0 and f"{wrong[0][2:].replace('-', '_')} is 0" in str(refused.exception)
    with pytest.raises(ConfigError, match="hours is 0"):
        estimate([cuts], hours=0, teacher=teacher, embed="none")
    with pytest.raises(ConfigError, match="workers is 2"):
        estimate([cuts], hours=1, teacher=teacher, embed="none", crew=Crew(workers=2))
    with pytest.raises(CorpusError, match="has 1 usable cuts"):
        estimate([cuts], hours=1, teacher=teacher, embed="none", sample_minutes=1e-6)
