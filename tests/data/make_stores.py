"""Writes the stores in `tests/data/stores`, one of each codec and of a layer, and `expected.npz`: what their reader made of them.

They are there so that stores written by an older asrkd are read as before, and are made again only if the format changes:

    git worktree add OLD 076fa94
    PYTHONPATH=OLD:OLD/tests python tests/data/make_stores.py OUT

`expected.npz` holds `STORE/counts` (entries of each frame, one utterance after another), `/ids`, `/log_probs` and `/missing`, and `/layer`
where one is stored.
Audio and plan are left out: they are not needed to read targets.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from helpers import make_cuts, make_teacher

from asrkd.acoustic import load_model
from asrkd.labeling.job import run
from asrkd.labeling.layer import make_codebooks
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.targets.streams import HIDDEN

CODECS = ("dense", "topk:5", "topk:40", "nucleus:0.95:12", "sampled:22", "hybrid:0:12", "hybrid:4:8")
LAYER = "forward_layers.0"


def sharpen(path: Path) -> None:
    """Random weights give nearly equal posteriors; these are as uneven as a teacher's."""
    content = torch.load(path, weights_only=True)
    content["model"]["output.weight"] *= 40
    torch.save(content, path)


def main(out: Path) -> None:
    # Below it every path is relative: a store names its teacher.
    os.chdir(tempfile.mkdtemp())
    cuts = str(make_cuts(Path("."), "cuts", 3))
    make_teacher(Path("teacher.pt"))
    sharpen(Path("teacher.pt"))
    teacher = "checkpoint:teacher.pt"
    loaded = load_model(teacher)
    make_codebooks(cuts, "codebooks.npy", teacher=loaded, layer=LAYER, count=4, entries=8)
    layers = {"layer-float16": {"layer": LAYER}, "layer-codebooks": {"layer": LAYER, "codebooks": "codebooks.npy"}}
    settings = {codec.replace(":", "-"): {"codec": codec} for codec in CODECS}
    settings |= {name: {"codec": "topk:1", **layer} for name, layer in layers.items()}
    expected: dict[str, np.ndarray] = {}
    for name, options in settings.items():
        plan(cuts, name, teacher=teacher, **options)
        run(Local(Store.open(name)))
        for extra in set(os.listdir(name)) - {"manifest.json", "inventory.txt", "shards", "codebooks.npy"}:
            shutil.rmtree(Path(name, extra))
        store = Store.open(name)
        rows = list(store.rows())
        targets = [store.targets(row) for row in rows]
        parts = {
            field: [np.asarray(getattr(one, field)) for one in targets] for field in ("ids", "log_probs", "missing")
        }
        parts["counts"] = [np.diff(np.asarray(one.row_splits)) for one in targets]
        if store.identity.layer:
            parts["layer"] = [np.asarray(vars(store.stream(HIDDEN, [row]))["values"]) for row in rows]
        expected |= {f"{name}/{field}": np.concatenate(values) for field, values in parts.items()}
        shutil.move(name, out / name)
    np.savez_compressed(out / "expected.npz", **expected)


if __name__ == "__main__":
    target = Path(sys.argv[1]).absolute()
    target.mkdir(parents=True)
    main(target)
