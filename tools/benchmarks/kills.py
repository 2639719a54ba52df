"""Kills labeling processes with SIGKILL at random points, until N are dead, and compares what is finished in the end.

    python tools/benchmarks/kills.py --kills 100

A third of the kills hits each backend: `label run --workers 2` (the parent, a worker or a reader), tasks of `label work`, and Ray (the driver,
or an actor on a local cluster). Whoever is dead is started again; a finished store is compared byte by byte with that of an undisturbed
run with one worker, verified, and the next one begun. It ends with an error if anything differs.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import psutil
from lhotse import CutSet, Recording

from asrkd import checkpoint
from asrkd.corpus.audio import write_audio
from asrkd.corpus.front_end import FrontEnd
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.models import BLSTMTeacher
from asrkd.store import Store
from asrkd.store.verify import verify

UNITS, CUTS_OF_A_UNIT = 30, 4


def write_corpus(folder: Path) -> str:
    """Cuts of 2 to 6 s of noise."""
    rng, cuts = np.random.default_rng(0), []
    for number in range(UNITS * CUTS_OF_A_UNIT):
        path = folder / f"audio/{number}.flac"
        samples = rng.normal(0, 0.1, int(16000 * rng.uniform(2, 6))).astype(np.float32)
        write_audio(path, samples, 16000)
        cuts.append(Recording.from_file(path, recording_id=str(number)).to_cut().with_id(f"cut-{number}"))
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl.gz")
    return str(folder / "cuts.jsonl.gz")


def write_teacher(path: Path) -> str:
    """A BLSTM with random weights."""
    units = ["<blk>", *(f"u{number}" for number in range(499))]
    arguments = {"hidden_dim": 128, "num_layers": 2}
    model = BLSTMTeacher(192, len(units), hidden_dim=128, num_layers=2)
    content = {"model": model.state_dict(), "model_factory": "asrkd.models:BLSTMTeacher", "model_args": arguments}
    content |= {
        "front_end": FrontEnd().to_dict(),
        "inventory": {"units": units, "topology": "ctc"},
        "subsampling_factor": 1,
    }
    checkpoint.save(path, content)
    return f"checkpoint:{path}"


def shards(root: str) -> dict[str, bytes]:
    """The bytes of every finished shard."""
    return {path.name: path.read_bytes() for path in Path(root, "shards").glob("*.parquet")}


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """A command of asrkd."""
    command = [sys.executable, "-c", "from asrkd.__main__ import main; main()", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """A process and those that it started, but for Python's resource tracker."""
    try:
        parent = psutil.Process(process.pid)
        everyone = [parent, *parent.children(recursive=True)]
        return [one for one in everyone if "resource_tracker" not in " ".join(one.cmdline())]
    except psutil.Error:
        return []


def actors(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The driver and the actors of Ray on this machine."""
    found = family(process)[:1]
    for one in psutil.process_iter(["cmdline"]):
        if "ray::_Worker" in " ".join(one.info["cmdline"] or []):
            found.append(one)
    return found


def disturb(
    root: str,
    commands: Sequence[Sequence[object]],
    victims: Callable[[subprocess.Popen[bytes]], list[psutil.Process]],
    kills: int,
    rng: random.Random,
) -> int:
    """Run commands until the store is finished, starting again whoever died; the number of kills, at most `kills`."""
    running = [start(*command) for command in commands]
    dead, seen, due = 0, len(shards(root)), time.monotonic() + 60.0
    while any(process.poll() != 0 for process in running):
        for number, process in enumerate(running):
            if process.poll() not in (None, 0):
                running[number] = start(*commands[number])
        if len(shards(root)) > seen:  # work continues: the next kill follows soon
            seen, due = len(shards(root)), min(due, time.monotonic() + rng.uniform(0.0, 1.0))
        if dead < kills and time.monotonic() >= due:
            alive = [one for process in running if process.poll() is None for one in victims(process)]
            if alive:
                try:
                    rng.choice(alive).kill()
                    dead += 1
                except psutil.NoSuchProcess:
                    pass
            due = time.monotonic() + 60.0
        time.sleep(0.01)
    return dead


@click.command(context_settings={"show_default": True})
@click.option("--kills", default=100)
@click.option("--seed", default=1)
def main(kills: int, seed: int) -> None:
    """Print kills and finished stores by backend."""
    import ray

    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as name:
        folder = Path(name)
        cuts, teacher = write_corpus(folder), write_teacher(folder / "final.pt")

        def planned(label: str) -> str:
            root = str(folder / label)
            hours = CUTS_OF_A_UNIT * 4.0 / 3600
            plan(cuts, root, teacher=teacher, codec="hybrid:0:16", embed="audio", unit_hours=hours)
            return root

        began = time.monotonic()
        run(Local(Store.open(planned("whole"))))
        whole, undisturbed = shards(str(folder / "whole")), time.monotonic() - began
        click.echo(f"undisturbed, one worker: {len(whole)} shards in {undisturbed:.1f} s")
        context = ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
        address = context.address_info["address"]
        total = 0
        for backend, share in (("local", kills // 3), ("array", kills // 3), ("ray", kills - 2 * (kills // 3))):
            dead, stores = 0, 0
            began = time.monotonic()
            while dead < share:
                root = planned(f"{backend}-{stores}")
                commands: list[Sequence[object]] = {
                    "local": [("label", "run", root, "--workers", 2)],
                    "array": [
                        ("label", "work", root, "--index", index, "--count", 3, "--lease-seconds", 3, "--readers", 0)
                        for index in range(3)
                    ],
                    "ray": [("label", "run", root, "--backend", "ray", "--address", address, "--workers", 2)],
                }[backend]
                dead += disturb(root, commands, actors if backend == "ray" else family, share - dead, rng)
                stores += 1
                if shards(root) != whole or verify(root):
                    raise click.ClickException(f"{root} differs from the undisturbed run, or does not verify")
            total += dead
            click.echo(
                f"{backend}: {dead} kills, {stores} stores finished, all as undisturbed ({time.monotonic() - began:.0f} s)"
            )
        ray.shutdown()
    click.echo(f"{total} kills: no utterance lost or doubled, every shard byte-identical")


if __name__ == "__main__":
    main()
