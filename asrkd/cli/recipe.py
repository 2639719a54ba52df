"""The command line that recipes share: stages, seeds, results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import torch

from asrkd import config as configs
from asrkd.cli.progress import Progress
from asrkd.study.config import StudyConfig
from asrkd.study.report import write_report
from asrkd.study.results import results_markdown
from asrkd.study.run import STAGES, Study

Prepare = Callable[[Path | None, Path, Callable[[str, int, int], None]], None]


def recipe_command(here: Path, prepare: Prepare, topologies: tuple[str, ...]) -> click.Command:
    """The `run.py` of a recipe in the folder `here`, with one `TOPOLOGY.yaml` for each topology.

    `prepare(corpus_dir, data, progress)` is stage `prepare`: it writes what `StudyConfig.data` describes.
    """
    stages = ("prepare", *STAGES, "results")

    @click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
    @click.option(
        "--corpus-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="The corpus; downloaded from its own home if not given.",
    )
    @click.option(
        "--exp",
        type=click.Path(file_okay=False, path_type=Path),
        default=here / "exp",
        show_default="exp beside run.py",
        help="Where everything is written.",
    )
    @click.option("--topology", type=click.Choice(topologies), default=topologies[0])
    @click.option("--seeds", default="1", help="Seeds, for example 1,2,3.")
    @click.option("--stage", type=click.Choice(stages), default=stages[0], help="First stage.")
    @click.option(
        "--stop-stage",
        type=click.Choice(stages),
        default=stages[-2],
        help="Last stage. 'results' writes RESULTS.md over the seeds of every topology.",
    )
    @click.option("--workers", default=2, help="Processes, one thread each.")
    @click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
    def run(
        corpus_dir: Path | None,
        exp: Path,
        topology: str,
        seeds: str,
        stage: str,
        stop_stage: str,
        workers: int,
        overrides: tuple[str, ...],
    ) -> None:
        """Run the recipe stage by stage; what is there is kept, so that it can be stopped and run again."""
        torch.set_num_threads(1)
        if not all(seed.strip().isdecimal() for seed in seeds.split(",")):
            raise click.BadParameter(f"{seeds!r} is not a list of numbers such as 1,2,3", param_hint="--seeds")
        numbers = [int(seed) for seed in seeds.split(",")]
        first, last = stages.index(stage), stages.index(stop_stage)
        if first > last:
            raise click.BadParameter(f"{stop_stage!r} comes before --stage {stage!r}", param_hint="--stop-stage")
        exp = exp.absolute()
        progress = Progress()
        if first == 0:
            prepare(corpus_dir, exp / "data", lambda name, done, total: progress.show(f"prepare {name}", done, total))
        work = {name: [exp / name / f"seed-{number}" for number in numbers] for name in topologies}
        wanted = [name for name in STAGES if first <= stages.index(name) <= last]
        for number, folder in zip(numbers, work[topology], strict=True):
            config = _config(here, exp, topology, number, folder, overrides)
            if wanted:
                Study(config, workers=workers, progress=progress.show).run(wanted[0], wanted[-1])
            if wanted and wanted[-1] == "decode":
                click.echo(f"report: {write_report(config, folder / 'report.html')}")
        progress.close()
        if last == len(stages) - 1:
            done = {
                name: [f for f in folders if (f / "results/upper/result.json").exists()]
                for name, folders in work.items()
            }
            tried = here / "tried.md"
            text = results_markdown(here.name, {name: folders for name, folders in done.items() if folders})
            (here / "RESULTS.md").write_text(
                text + (tried.read_text(encoding="utf-8") if tried.exists() else ""), encoding="utf-8"
            )
            click.echo(f"results: {here / 'RESULTS.md'}")

    return run


def _config(here: Path, exp: Path, topology: str, seed: int, work: Path, overrides: tuple[str, ...]) -> StudyConfig:
    fixed = [f"work={work}", f"data={exp / 'data'}", f"stores={exp / 'stores'}", f"seed={seed}"]
    config = configs.load(StudyConfig, here / f"{topology}.yaml", [*fixed, *overrides])
    for system in (config.teacher, config.student):
        system.augment.noise = [str(exp / "data/noise/train")]
    return config
