"""A pretrained encoder with a CTC head of letters next to a BLSTM from scratch, with one budget: character error rates of greedy decoding on dev and test.

    python tools/benchmarks/pretrained_encoder.py WORK --encoder FOLDER --letters FOLDER --labeled CUTS --dev CUTS --test CUTS [--updates N] [--only NAME] [--runs FOLDER]

Both are trained on the same audio, with as many updates on batches of as many seconds. WORK keeps stores and runs: the same command resumes. With --runs nothing is trained, and the
finished runs of that folder (`encoder`, `blstm`) are scored. The settings of the encoder are for Whisper's; those of both are taken from a few tries on dev.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import kaldialign
import torch

from asrkd import config as configs
from asrkd.acoustic import load_model
from asrkd.corpus.front_end import FrontEnd
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.decoding.search import Search
from asrkd.evaluation.wer import score, total
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.report.tables import text_table
from asrkd.store import Store
from asrkd.training.config import TrainConfig
from asrkd.training.trainer import Trainer

# Of a batch.
SECONDS = 64
BLSTM: dict[str, Any] = {
    "model": {"factory": "asrkd.models:BLSTMTeacher", "args": {"hidden_dim": 320, "num_layers": 4, "dropout": 0.2}},
    "front_end": {},
    "optimizer": {"learning_rate": 0.002, "warmup_steps": 100, "ema_decay": 0.98},
    "augment": {"gain_db": 6, "time_masks": 2, "time_mask_frames": 7, "frequency_masks": 2, "frequency_mask_bins": 12},
}


def encoder_settings(folder: str) -> dict[str, Any]:
    return {
        "model": {
            "factory": "asrkd.models:Pretrained",
            "args": {"name": folder, "dropout": 0.1},
            "subsampling_factor": 2,
        },
        "front_end": {"preset": "whisper"},
        "optimizer": {
            "learning_rate": 0.002,
            "encoder_scale": 0.15,
            "layer_decay": 0.9,
            "freeze_steps": 30,
            "warmup_steps": 60,
            "ema_decay": 0.98,
        },
        "augment": {
            "gain_db": 6,
            "time_masks": 2,
            "time_mask_frames": 20,
            "frequency_masks": 2,
            "frequency_mask_bins": 15,
        },
    }


def stored(cuts: str, folder: Path, front_end: FrontEnd) -> str:
    """The store of transcripts of cuts, filled."""
    if not (folder / "manifest.json").exists():
        plan(cuts, str(folder), embed="audio", unit_hours=0.25, front_end=front_end)
    run(Local(Store.open(str(folder))))
    return str(folder)


def trained(work: Path, name: str, given: dict[str, Any], letters: str, labeled: str, dev: str, updates: int) -> Path:
    front_end = FrontEnd.from_dict(given["front_end"])
    folder = work / name
    config = configs.from_dict(
        TrainConfig,
        given
        | {
            "run": str(folder),
            "threads": 1,
            "inventory": {"lexicon": f"lang:{letters}", "topology": "ctc"},
            "sources": {"labeled": {"store": stored(labeled, work / f"stores/{name}-labeled", front_end)}},
            "schedule": [{"steps": updates, "mixture": {"labeled": 1}}],
            "batch": {"max_frames": SECONDS * 16000 // front_end.frame_law().frame_shift, "max_utterances": 16},
            "dev": stored(dev, work / f"stores/{name}-dev", front_end),
            "eval_steps": 200,
            "checkpoint_steps": 20,
        },
    )
    Trainer(config).train()
    return folder


def rates(run_folder: Path, cuts: str) -> tuple[float, float]:
    """Character and word error rates of greedy decoding."""
    model, test_set = load_model(str(run_folder)), EvaluationSet.read(cuts)
    search = Search(model.text_tokenizer(), model, decoder="greedy")
    texts, references = search.texts(AcousticScores(model, test_set)), search.references(test_set.references)
    errors = characters = 0
    for key, reference in references.items():
        wanted, found = list(" ".join(reference.split())), list(" ".join(texts[key].split()))
        errors += kaldialign.edit_distance(wanted, found)["total"]
        characters += len(wanted)
    return errors / characters, total(score(references, texts, test_set.speakers)).rate


@click.command()
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--encoder", required=True)
@click.option("--letters", required=True)
@click.option("--labeled", required=True)
@click.option("--dev", required=True)
@click.option("--test", required=True)
@click.option("--updates", default=900)
@click.option("--only", type=click.Choice(["encoder", "blstm"]))
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path))
def main(
    work: Path,
    encoder: str,
    letters: str,
    labeled: str,
    dev: str,
    test: str,
    updates: int,
    only: str | None,
    runs: Path | None,
) -> None:
    torch.set_num_threads(1)
    rows = []
    for name, given in (("encoder", encoder_settings(encoder)), ("blstm", BLSTM)):
        if only not in (None, name):
            continue
        began = time.process_time()
        folder = runs / name if runs else trained(work, name, given, letters, labeled, dev, updates)
        minutes = (time.process_time() - began) / 60
        on_dev, on_test = rates(folder, dev), rates(folder, test)
        rows.append([name, f"{minutes:.1f}", *(f"{rate:.2%}" for rate in (*on_dev, *on_test))])
    click.echo(text_table(["model", "CPU minutes", "CER dev", "WER dev", "CER test", "WER test"], rows))


if __name__ == "__main__":
    main()
