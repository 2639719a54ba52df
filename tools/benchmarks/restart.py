"""Continuing with a store in which a million utterances are done: seconds to the first new unit, next to a fresh store's.

    python tools/benchmarks/restart.py --utterances 1000000

The store has real shards and real cuts, but the audio of the finished units does not exist: opening any of it would fail the run. Both
times are of the whole command `asrkd label run`, from its start (imports and loading the teacher included) to the teacher's first batch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from asrkd.corpus.audio import write_audio
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.files import Files
from asrkd.store.plan import read_cuts
from asrkd.store.writer import write_shard
from asrkd.targets.random import frame_keys

TEACHER = """
import os, time, torch
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.acoustic import AcousticModel

class First(torch.nn.Module):
    def forward(self, features, lengths):
        if not os.path.exists(os.environ["FIRST"]):
            with open(os.environ["FIRST"], "w") as file:
                file.write(str(time.time()))
        return features[..., :40], lengths

def make():
    units = ("<blk>", *(f"u{n}" for n in range(39)))
    return AcousticModel(First(), FrontEnd(), Inventory(units, "ctc"), 1, "first", "f" * 32)
"""
CUT = (
    '{{"id": "{0}", "start": 0, "duration": 5.0, "channel": 0, "supervisions": [], "recording": {{"id": "{0}", "sources": '
    '[{{"type": "file", "channels": [0], "source": "{1}"}}], "sampling_rate": 16000, "num_samples": 80000, "duration": 5.0, '
    '"channel_ids": [0]}}, "type": "MonoCut"}}'
)


def write_manifest(path: Path, count: int, audio: Path) -> None:
    """Cuts without audio, and behind them one hour with."""
    with open(path, "w") as file:
        for number in range(count):
            print(CUT.format(f"done-{number}", f"/nowhere/{number}.flac"), file=file)
        for number in range(720):
            print(CUT.format(f"new-{number}", audio), file=file)


def finish_all_but_one(root: str) -> int:
    """Write the shards of every unit but the last; the number of their utterances."""
    store = Store.open(root)
    codec, units = store.identity.posterior_codec, int(store.plan["num_units"])
    frames = store.identity.frame_law.num_frames(80000)
    log_probs = torch.randn(frames, len(store.identity.units)).log_softmax(1)
    keys = frame_keys("any", store.identity.teacher_fingerprint, frames, torch.device("cpu"))
    packed = codec.layout(log_probs.shape[1]).pack(codec.encode(log_probs, keys))
    fixed: dict[str, Any] = {
        "start": 0.0,
        "duration": 5.0,
        "sampling_rate": 16000,
        "num_samples": 80000,
        "num_frames": frames,
    }
    fixed |= {"kept_mass": 1.0, "entropy": 1.0, "confidence": 0.5} | packed
    total = 0
    for unit in range(units - 1):
        rows = [fixed | {"id": cut["id"], "recording_id": cut["id"]} for cut in read_cuts(Files(root), unit)]
        write_shard(Files(root), unit, rows, store.identity)
        total += len(rows)
    return total


def first_batch(root: str, folder: Path) -> float:
    """Seconds from the start of the command to the teacher's first batch."""
    mark = folder / "first"
    mark.unlink(missing_ok=True)
    path = f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    command = [sys.executable, "-c", "from asrkd.__main__ import main; main()", "label", "run", root, "--readers", "0"]
    began = time.time()
    subprocess.run(command, env=os.environ | {"FIRST": str(mark), "PYTHONPATH": path}, check=True, capture_output=True)
    return float(mark.read_text()) - began


@click.command(context_settings={"show_default": True})
@click.option("--utterances", default=1_000_000)
def main(utterances: int) -> None:
    """Print both times and their ratio."""
    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as name:
        folder = Path(name)
        (folder / "first_teacher.py").write_text(TEACHER)
        sys.path.insert(0, name)
        write_audio(folder / "new.flac", np.zeros(80000, dtype=np.float32), 16000)
        times = {}
        for label, count in (("fresh", 0), ("restart", utterances)):
            write_manifest(folder / "cuts.jsonl", count, folder / "new.flac")
            root = str(folder / label)
            plan(str(folder / "cuts.jsonl"), root, teacher="python:first_teacher:make", codec="topk:2", unit_hours=1.0)
            done = finish_all_but_one(root)
            times[label] = first_batch(root, folder)
    click.echo(f"fresh store                  {times['fresh']:6.2f} s to the teacher's first batch")
    click.echo(
        f"{done} utterances finished {times['restart']:6.2f} s, {times['restart'] - times['fresh']:.2f} s more, "
        f"{times['restart'] / times['fresh']:.2f} of the fresh one's"
    )


if __name__ == "__main__":
    main()
