"""What `--embed` costs a student in words: bytes an hour, speed of the loader and word error rate for FLAC, Opus, float32 and 8-bit features.

    python recipes/arabic_commands/run.py --corpus-dir CORPUS --topology hmm --exp EXP --stop-stage align
    python tools/benchmarks/embedding_wer.py EXP OUT [--speakers 7] [--updates 400] [--seeds 1,2,3] [--workers 2]

One teacher labels the speech of some of the recipe's untranscribed speakers into a store for each embedding; their targets are the same bytes, which is
checked. Students of the recipe's shape, one for each embedding and seed, differ in nothing else. All read without noise and gain, which stored features
cannot take, and with the teacher's front end. The first embedding is the reference: differences are paired by seed and speaker, intervals are 95 % by the bootstrap over test
speakers. Students of float32 features differ from FLAC's by rounding alone, so their difference shows what a chance makes of a training. What is there is kept,
so it can be stopped and started again.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import time
from pathlib import Path

import click
import torch

from asrkd import config as configs
from asrkd import files
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import InventoryConfig
from asrkd.evaluation.wer import bootstrap_difference
from asrkd.report.tables import text_table
from asrkd.store import Store
from asrkd.store.embedding import parse_embedding
from asrkd.store.inspect import store_statistics
from asrkd.streaming import Loader, Source
from asrkd.training.config import TrainConfig
from asrkd.training.schedule import PhaseConfig
from asrkd.training.sources import SourceConfig
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.decode import decode_system
from asrkd_recipes.study.jobs import train_all
from asrkd_recipes.study.results import read_system
from asrkd_recipes.study.run import Study
from asrkd_recipes.study.tables import percent, rate

RECIPE = Path(__file__).parents[2] / "recipes/arabic_commands/hmm.yaml"
CHANGES = [
    "teachers=1",
    "teacher.model.args.hidden_dim=96",
    "teacher.model.args.num_layers=1",
    "teacher.front_end.mean_norm=causal",
    "student.augment.noise_probability=0",
    "student.augment.gain_db=0",
    "decoding.insertion_penalties=[0, 2, 6]",
    "decoding.leave_early=[false]",
]


def some_speakers(cuts: Path, count: int, out: Path) -> str:
    """The cuts of the first speakers, as a manifest."""
    with gzip.open(cuts, "rt", encoding="utf-8") as stream:
        lines = [(json.loads(line)["supervisions"][0]["speaker"], line) for line in stream]
    chosen = sorted({speaker for speaker, _ in lines})[:count]
    text = "".join(line for speaker, line in lines if speaker in chosen)
    return str(files.write(out, text))


def targets(store: str) -> list[bytes]:
    """Everything that a store holds but what is embedded."""
    opened = Store.open(store)
    columns = ["id", *opened.target_columns]
    return [
        b"".join(str(row[name]).encode() if name == "id" else bytes(row[name]) for name in columns)
        for row in opened.rows(columns)
    ]


def frames_per_second(store: str, front_end: FrontEnd) -> float:
    """Frames of an epoch by CPU seconds of one thread, the better of two."""
    best = 0.0
    for _ in range(2):
        source = Source("soft", Store.open(store))
        loader = Loader(
            {"soft": source}, front_end=front_end, max_frames=10_000, max_utterances=64, prefetch=0, cache_mb=0
        )
        began = time.process_time()
        frames = sum(int(batch.num_frames.sum()) for batch in loader.epoch("soft"))
        best = max(best, frames / (time.process_time() - began))
    return best


def student(config: StudyConfig, study: Study, store: str, run: Path, seed: int, updates: int) -> TrainConfig:
    """The recipe's distilled student on another store."""
    system = config.student
    return TrainConfig(
        run=str(run),
        seed=seed,
        threads=1,
        model=system.model,
        front_end=system.front_end,
        inventory=InventoryConfig(config.tokenizer, config.topology, config.states_per_phone, text=config.text),
        sources={
            "soft": SourceConfig(store, "soft"),
            "labeled": SourceConfig(study.stores.to_train_from("labeled"), "labeled"),
        },
        schedule=[PhaseConfig(updates, {"soft": 6, "labeled": 1})],
        soft_loss=config.soft_loss,
        optimizer=system.optimizer,
        augment=system.augment,
        batch=dataclasses.replace(system.batch, max_frames=1000),
        dev=study.stores.to_train_from("dev"),
        eval_steps=updates,
        checkpoint_steps=100,
    )


@click.command(context_settings={"show_default": True})
@click.argument("exp", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--speakers", default=7, help="Untranscribed speakers.")
@click.option("--updates", default=400, help="Of a student.")
@click.option("--teacher-updates", default=500)
@click.option("--seeds", default="1,2,3")
@click.option("--workers", default=1, help="Trainings at a time.")
@click.option("--embed", "specs", multiple=True, default=("audio", "opus:24", "features", "features:8bit"))
def main(
    exp: Path,
    out: Path,
    speakers: int,
    updates: int,
    teacher_updates: int,
    seeds: str,
    workers: int,
    specs: tuple[str, ...],
) -> None:
    """Label, train, decode, and print the table."""
    torch.set_num_threads(1)
    exp, out = exp.absolute(), out.absolute()
    places = [f"work={out}", f"data={exp / 'data'}", f"stores={exp / 'stores'}", f"teacher.steps={teacher_updates}"]
    config = configs.from_dict(StudyConfig, configs.read_yaml(RECIPE), [*places, *CHANGES])
    config.teacher.augment.noise = [str(exp / "data/noise/train")]
    study = Study(
        config, progress=lambda label, done, total, note="", **_: click.echo(f"{label} {done}/{total} {note}", err=True)
    )
    study.teacher()
    cuts = some_speakers(exp / "data/unlabeled.jsonl.gz", speakers, out / "cuts.jsonl")
    stores = {spec: f"soft-{spec.replace(':', '-')}" for spec in specs}
    for spec, name in stores.items():
        study.stores.fill(name, cuts, teacher=study.teacher_spec, codec=config.codec, embed=spec)
    roots = {spec: str(study.stores.root(name)) for spec, name in stores.items()}
    expected = targets(roots[specs[0]])
    for spec in specs[1:]:
        if targets(roots[spec]) != expected:
            raise click.ClickException(f"the targets next to {spec} differ from those next to {specs[0]}")
    works = [out / f"seed-{seed}" for seed in seeds.split(",")]
    for seed, work in zip(seeds.split(","), works, strict=True):
        runs = {spec: work / "runs" / name for spec, name in stores.items()}
        jobs = {spec: student(config, study, roots[spec], run, int(seed), updates) for spec, run in runs.items()}
        train_all(jobs, workers, study.progress)
        for spec, run in runs.items():
            decode_system(config, f"checkpoint:{run}", [run], work / "results" / stores[spec])
    front_end = FrontEnd.from_dict(config.student.front_end)
    results = {spec: read_system(works, name) for spec, name in stores.items()}
    rows = []
    for spec, result in results.items():
        facts, column = store_statistics(Store.open(roots[spec])), parse_embedding(spec).column
        size = facts["bytes_per_frame"][column] * facts["frames"] / facts["hours"] / 1e6
        cells = [
            spec,
            f"{size:.1f}",
            f"{frames_per_second(roots[spec], front_end):,.0f}",
            percent(sum(result.dev) / len(works)),
        ]
        for test, counts in result.tests.items():
            difference = bootstrap_difference(counts, results[specs[0]].tests[test])[0]
            each = " ".join(percent(rate({name: [one] for name, one in run.items()})) for run in result.runs[test])
            cells += [f"{percent(rate(counts))} ({each})"]
            cells += [
                "-" if spec == specs[0] else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in difference))
            ]
        rows.append(cells)
    tests = [cell for test in results[specs[0]].tests for cell in (f"WER {test} % (seeds)", f"to {specs[0]}, points")]
    hours = store_statistics(Store.open(roots[specs[0]]))["hours"]
    click.echo(f"{hours:.2f} hours untranscribed, {updates} updates, seeds {seeds}")
    click.echo(text_table(["--embed", "MB an hour", "loader, frames/s", "WER dev %", *tests], rows))


if __name__ == "__main__":
    main()
