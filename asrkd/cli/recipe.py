"""The command line that recipes share: stages, seeds, results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import torch

from asrkd import config as configs
from asrkd import files
from asrkd.cli import options
from asrkd.cli.progress import ProgressBar
from asrkd.errors import ConfigError
from asrkd.report.pictures import rate_curve
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.report import write_report
from asrkd_recipes.study.results import by_search, is_decoded, read_results, record
from asrkd_recipes.study.run import STAGES, Study
from asrkd_recipes.study.tables import curve_file, results_markdown, speaker_curve

Prepare = Callable[[Path | None, Path, Callable[[str, int, int], None]], None]
ALL = "all"


def recipe_command(
    here: Path,
    folds: Mapping[str, Prepare],
    topologies: tuple[str, ...],
    *,
    fold_option: str = "--fold",
    separate: bool = False,
) -> click.Command:
    """The `run.py` of a recipe in the folder `here`, with one `TOPOLOGY.yaml` for each topology.

    `folds[name](corpus_dir, data, progress)` is stage `prepare`: it writes what `StudyConfig.data` describes. A recipe
    that is not a cross-validation has one fold, with the empty name; with several, `fold_option` chooses one or all.

    With `separate` the folds are settings of the recipe, such as other amounts of transcribed speech, whose results have tables of their own:
    `fold_option` chooses one, by default the first, and keys of `settings/NAME.yaml`, where that is, replace those of `TOPOLOGY.yaml`.
    """
    stages = ("prepare", *STAGES, "results")
    names = tuple(folds)

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
        show_default="exp next to run.py",
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
    @options.STUDY_WORKERS
    @click.option(
        "--untranscribed",
        multiple=True,
        metavar="CUTS",
        help="Further untranscribed speech, as `asrkd label plan` takes it, which the teacher labels too; may be given more than once.",
    )
    @click.option(
        "--variants",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        multiple=True,
        help="YAML file of further students, name: settings (asrkd_recipes.study.config.VariantConfig); may be given more than once.",
    )
    @click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
    def run(
        corpus_dir: Path | None,
        exp: Path,
        topology: str,
        seeds: str,
        stage: str,
        stop_stage: str,
        workers: int,
        untranscribed: tuple[str, ...],
        variants: tuple[Path, ...],
        overrides: tuple[str, ...],
        fold: str = names[0],
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
        files.check_folder(exp)
        progress = ProgressBar()
        wanted = [name for name in STAGES if first <= stages.index(name) <= last]
        for name in names if fold == ALL else (fold,):
            if first == 0:
                folds[name](
                    corpus_dir, exp / name / "data", lambda what, *done: progress.show(f"prepare {what}", *done)
                )
            for number in numbers if wanted else ():
                config = _config(
                    here,
                    exp / name,
                    topology,
                    number,
                    overrides,
                    variants,
                    untranscribed=untranscribed,
                    setting=name if separate else "",
                )
                Study(config, workers=workers, progress=progress.show).run(wanted[0], wanted[-1])
                if wanted[-1] == "decode":
                    click.echo(f"report: {write_report(config, Path(config.work) / 'report.html')}")
        progress.close()
        if last == len(stages) - 1:
            decoded: dict[str, list[Path]] = {}
            for name in topologies:
                for one in names:
                    for number in numbers:
                        work, file = _work(exp / one, name, number), here / "results" / _file(one, name, number)
                        if is_decoded(work):
                            record(work, file)
                        if is_decoded(file):
                            title = f"{one}-{name}" if separate else name
                            decoded.setdefault(title, []).append(file)
            if not decoded:
                raise ConfigError(
                    f"no run in {str(exp)!r} with seeds {seeds} is decoded, and none is recorded; run the stages to 'decode' first"
                )
            tried = here / "tried.md"
            text = results_markdown(here.name, decoded)
            files.write(here / "RESULTS.md", text + (tried.read_text(encoding="utf-8") if tried.exists() else ""))
            click.echo(f"results: {here / 'RESULTS.md'}")
            for name, found in decoded.items():
                search, systems = next(iter(by_search(read_results(found)).items()))
                if points := speaker_curve(found, search):
                    drawn = rate_curve(points, "untranscribed speakers", rate_name=systems["teacher"].rate_name)
                    picture = files.write(here / curve_file(name), drawn.png)
                    click.echo(f"learning curve: {picture}")

    if len(names) > 1:
        choice = click.Choice((*names, ALL))
        default = names[0] if separate else ALL
        run.params.insert(0, click.Option([fold_option, "fold"], type=choice, default=default, show_default=True))
    return run


def _work(exp: Path, topology: str, seed: int) -> Path:
    return exp / topology / f"seed-{seed}"


def _file(fold: str, topology: str, seed: int) -> str:
    """Where the results of a run are recorded."""
    return "-".join([*([fold] if fold else []), topology, f"seed-{seed}.json"])


def _config(
    here: Path,
    exp: Path,
    topology: str,
    seed: int,
    overrides: tuple[str, ...],
    variants: Sequence[Path] = (),
    *,
    untranscribed: Sequence[str] = (),
    setting: str = "",
) -> StudyConfig:
    # Of a topology each, since another one may come with another teacher, whose frames the stores of transcripts count.
    stores = exp / topology / "stores"
    fixed = [f"work={_work(exp, topology, seed)}", f"data={exp / 'data'}", f"stores={stores}", f"seed={seed}"]
    given = configs.read_yaml(here / f"{topology}.yaml")
    replaced = here / "settings" / f"{setting}.yaml"
    if setting and replaced.exists():
        given |= configs.read_yaml(replaced)
    for file in variants:
        known, further = given.get("variants", {}), configs.read_yaml(file)
        if other := [name for name, settings in further.items() if known.get(name, settings) != settings]:
            raise ConfigError(
                f"{str(file)!r} has other settings for the variant {other[0]!r} than what was given before it, and a study has one variant of a name; "
                "rename it, or leave one out"
            )
        given["variants"] = known | further
    config = configs.from_dict(StudyConfig, given, [*fixed, *overrides])
    config.untranscribed += untranscribed
    for system in (config.teacher, config.student):
        system.augment.noise = [str(exp / "data/noise/train")]
    return config
