"""Large stores: seconds and resident memory of every command that looks at a whole store, and of the same on a tenth of it.

    python tools/benchmarks/units.py --units 100000 --read-units 2000 --plot units.png
    python tools/benchmarks/units.py --units 100 --read-units 300 --command verify --command decode --plot reading.png     # some of them

What is told from listings (status, snapshot, head, a restart with one unit to do) runs on `--units` work units: their shards are links of
one, every tenth has a cut in quarantine, all but one are finished; a restart is measured up to the teacher's first batch. What reads every
row runs on `--read-units` of 50 utterances each. Each command is a process of its own, from the start of Python to its end (`--version`:
that alone); memory is the most that it had resident. The reference, in the same run, is a store of a tenth of the units.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from measured import Cost, cost

from asrkd.corpus.audio import write_audio
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.labeling.encoding import encoded_columns
from asrkd.store import Identity, manifest
from asrkd.store.files import Files
from asrkd.store.plan import PlanTotals, plan_name, to_line, write_planned
from asrkd.store.schema import quarantine_name, shard_name
from asrkd.store.writer import shard_bytes
from asrkd.targets.codecs import parse_codec
from asrkd.targets.streams import POSTERIORS

SAMPLES, RATE, OF_A_UNIT = 16_000, 16_000, 50
# Links of one file that a disk allows.
LINKS = 30_000
PRIOR = "import sys; from asrkd.store import Store; from asrkd.store.prior import log_prior; log_prior(Store.open(sys.argv[1]))"
TEACHER = """
import os, torch
from asrkd.acoustic import AcousticModel
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory

class First(torch.nn.Module):
    def forward(self, features, lengths):
        os._exit(0)

def make():
    return AcousticModel(First(), FrontEnd(), Inventory(("<blk>", *(f"u{n}" for n in range(39))), "ctc"), 1, "first", "f" * 32)
"""
DECODED = """
import torch
from asrkd.acoustic import AcousticModel
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory

class Matrix(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(FrontEnd().feature_dim, 3)

    def forward(self, features, lengths):
        return self.linear(features), lengths

def make():
    return AcousticModel(Matrix().eval(), FrontEnd(), Inventory(("<blk>", "A", "B"), "ctc"), 1, "matrix", "d" * 32)
"""


def python(arguments: Sequence[str], folder: Path) -> Cost:
    """Run Python with these arguments to its end."""
    path = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return cost([sys.executable, *arguments], folder / "log", {"PYTHONPATH": path})


def asrkd(*arguments: object) -> list[str]:
    """A command of asrkd as arguments of Python."""
    return ["-m", "asrkd", *map(str, arguments)]


def cut(key: str, audio: Path, text: str = "") -> dict[str, Any]:
    """A planned cut of one second."""
    supervision = {"id": key, "recording_id": key, "start": 0.0, "duration": 1.0, "channel": 0, "text": text}
    recording = {
        "id": key,
        "sources": [{"type": "file", "channels": [0], "source": str(audio)}],
        "sampling_rate": RATE,
        "num_samples": SAMPLES,
        "duration": 1.0,
        "channel_ids": [0],
    }
    return {
        "id": key,
        "start": 0.0,
        "duration": 1.0,
        "channel": 0,
        "supervisions": [supervision] if text else [],
        "recording": recording,
        "type": "MonoCut",
    }


def row(identity: Identity, key: str, seed: int) -> dict[str, Any]:
    """A row of a second of noise."""
    frames = identity.frame_law.num_frames(SAMPLES)
    generator = torch.Generator().manual_seed(seed % 97)
    values: dict[str, Any] = {
        "id": key,
        "recording_id": key,
        "start": 0.0,
        "duration": 1.0,
        "sampling_rate": RATE,
        "num_samples": SAMPLES,
        "num_frames": frames,
    }
    if identity.embed == "features":
        features = torch.randn(frames, identity.front_end.feature_dim, generator=generator)
        values |= {"features": features.numpy().tobytes(), "text": "a b a"}
    if POSTERIORS not in identity.streams:
        return values
    log_probs = (3 * torch.randn(frames, len(identity.units), generator=generator)).log_softmax(1)
    return values | encoded_columns(key, log_probs, identity)


def linked(root: Path, units: int, identity: Identity, audio: Path) -> None:
    """A store whose finished shards, and quarantines, are links of one; the last unit is planned and not finished."""
    files = Files(str(root))
    for name in ("shards", "quarantine", "plan"):
        (root / name).mkdir(parents=True)
    for unit in (0, units - 1):
        write_planned(files, unit, to_line(cut(f"cut-{unit}", audio)))
    data = shard_bytes(0, [row(identity, "cut-0", 0)], identity)
    source: dict[str, Path] = {}
    for unit in range(units - 1):
        names = {shard_name(unit): data}
        if unit % 10 == 9:
            names[quarantine_name(unit)] = b'{"id": "bad", "reason": "a cut without samples"}\n'
        for name, content in names.items():
            kind = name.split("/")[0]
            if unit % LINKS < 10:
                (root / name).write_bytes(content)
                source[kind] = root / name
            else:
                os.link(source[kind], root / name)
    PlanTotals.of(np.ones(units), np.ones(units)).write(files)
    manifest.create(files, identity, {"num_units": units, "num_cuts": units, "hours": units / 3600, "fingerprint": ""})


def filled(root: Path, units: int, identity: Identity, audio: Path) -> None:
    """A finished store of `OF_A_UNIT` utterances a unit."""
    files = Files(str(root))
    for name in ("shards", "plan"):
        (root / name).mkdir(parents=True)
    for unit in range(units):
        keys = [f"utterance-{unit}-{number}" for number in range(OF_A_UNIT)]
        rows = [row(identity, key, unit + number) for number, key in enumerate(keys)]
        # Not by `write_shard`: waiting for the disk after each would take most of the time.
        (root / shard_name(unit)).write_bytes(shard_bytes(unit, rows, identity))
        (root / plan_name(unit)).write_bytes(gzip.compress(b"".join(to_line(cut(key, audio)) for key in keys), 1))
    totals = np.full(units, OF_A_UNIT)
    PlanTotals.of(totals, totals).write(files)
    plan = {"num_units": units, "num_cuts": units * OF_A_UNIT, "hours": units * OF_A_UNIT / 3600, "fingerprint": ""}
    manifest.create(files, identity, plan)


def measure(work: Path, units: int, read_units: int, wanted: Sequence[str]) -> dict[str, Cost]:
    """What each command takes on stores of N units."""
    inventory = Inventory(("<blk>", *(f"u{number}" for number in range(39))), "ctc")
    soft = Identity("python:first_teacher:make", "f" * 32, {POSTERIORS: parse_codec("hybrid:0:12")}, inventory)
    transcripts = Identity(front_end=FrontEnd(), embed="features")
    audio = work / "second.flac"
    many, stored, labeled = (work / f"{name}-{units}" for name in ("many", "stored", "labeled"))
    linked(many, units, soft, audio)
    filled(stored, read_units, soft, audio)
    filled(labeled, max(read_units // 10, 1), transcripts, audio)
    test_set = work / f"test-{units}.jsonl.gz"
    spoken = [to_line(cut(f"spoken-{n}", audio, "a b")) for n in range(max(read_units * OF_A_UNIT // 10, 1))]
    test_set.write_bytes(gzip.compress(b"".join(spoken), 1))
    costs = {
        "--version": asrkd("--version"),
        "status": asrkd("label", "status", many),
        "snapshot": asrkd("store", "snapshot", many, "now"),
        "head": asrkd("store", "head", many),
        "restart": asrkd("label", "run", many, "--readers", 0, "--max-quarantined", 0.5),
        "verify": asrkd("store", "verify", stored),
        "stats": asrkd("store", "stats", stored),
        "card": asrkd("store", "card", stored, "--name", "x"),
        "info": asrkd("store", "info", stored),
        "prior": ["-c", PRIOR, str(stored)],
        "decode": asrkd(
            "decode",
            "python:matrix_model:make",
            test_set,
            work / f"decoded-{units}",
            "--lexicon",
            work / "lexicon.txt",
        ),
        "align": asrkd(
            "align",
            labeled,
            work / f"aligned-{units}",
            "--lexicon",
            work / "lexicon.txt",
            "--oddity",
            1e9,
            "--from",
            work / "aligner.npz",
        ),
    }
    measured = {}
    for name in wanted or costs:
        arguments = costs[name]
        measured[name] = python(arguments, work)
        click.echo(f"{name:10} {told(measured[name])}", err=True)
    shutil.rmtree(many)
    return measured


def told(taken: Cost) -> str:
    """A cost in words."""
    return f"{taken.seconds:7.1f} s ({taken.cpu_seconds:6.1f} s of CPU) {taken.megabytes:5.0f} MB"


def picture(path: str, small: dict[str, Cost], large: dict[str, Cost]) -> None:
    """Resident memory of each command on both stores."""
    matplotlib.use("Agg")
    canvas = Figure(figsize=(max(8, len(large)), 4), layout="constrained")
    axes = canvas.add_subplot()
    places = np.arange(len(large))
    axes.bar(places - 0.2, [one.megabytes for one in small.values()], 0.4, label="a tenth of the store")
    axes.bar(places + 0.2, [one.megabytes for one in large.values()], 0.4, label="the store")
    axes.set_xticks(places, list(large))
    axes.set_ylabel("most resident memory, MB")
    canvas.legend(loc="outside upper center", ncols=2, frameon=False)
    canvas.savefig(path, dpi=120)


@click.command(context_settings={"show_default": True})
@click.option("--units", default=100_000, help="Units of the store whose listings are read.")
@click.option("--read-units", default=2000, help="Units of the store that is read.")
@click.option("--command", "wanted", multiple=True, help="Measure this one; may be given again.  [default: all]")
@click.option("--plot", type=click.Path(dir_okay=False), help="PNG of the memory.")
def main(units: int, read_units: int, wanted: tuple[str, ...], plot: str | None) -> None:
    """Print seconds and megabytes, and their ratio to those of a store of a tenth."""
    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as name:
        work = Path(name)
        (work / "first_teacher.py").write_text(TEACHER)
        (work / "matrix_model.py").write_text(DECODED)
        (work / "lexicon.txt").write_text("a A\nb B\n")
        write_audio(work / "second.flac", np.random.default_rng(0).normal(0, 0.1, SAMPLES).astype(np.float32), RATE)
        # A flat start holds up to five hours: it is made once, on a small store, and the copies are made with it.
        filled(work / "start", 2, Identity(front_end=FrontEnd(), embed="features"), work / "second.flac")
        lexicon = ["--lexicon", work / "lexicon.txt"]
        python(
            asrkd("align", work / "start", work / "started", *lexicon, "--save", work / "aligner.npz", "--oddity", 1e9),
            work,
        )
        small, large = (measure(work, units // part, read_units // part, wanted) for part in (10, 1))
    for command, taken in large.items():
        before = small[command]
        growth = f"{taken.megabytes - before.megabytes:+5.0f} MB ({taken.megabytes / before.megabytes:.2f})"
        click.echo(f"{command:10} a tenth: {told(before)}, all: {told(taken)}, memory {growth}")
    click.echo(
        f"status, snapshot, head, restart: {units} units; align, decode: {read_units * OF_A_UNIT // 10} utterances; others: "
        f"{read_units * OF_A_UNIT}"
    )
    if plot:
        picture(plot, small, large)


if __name__ == "__main__":
    main()
