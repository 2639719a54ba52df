"""The report of a study: one HTML file with tables and pictures."""

from __future__ import annotations

from pathlib import Path

from asrkd.evaluation.wer import bootstrap
from asrkd.report import html, pictures
from asrkd.report.html import Section
from asrkd.report.run import curves_of
from asrkd.report.store import distributions
from asrkd.report.tables import Table
from asrkd.store import Store
from asrkd.store.inspect import StoreFigures
from asrkd_recipes.study.calibration import calibration_section
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.examples import example_sections, load_models
from asrkd_recipes.study.results import SystemResult, by_search, read_results
from asrkd_recipes.study.run import Study
from asrkd_recipes.study.tables import (
    NAMES,
    comparison_table,
    rate,
    seed_table,
    speaker_curve,
    speaker_table,
    system_table,
    teacher_warning,
    variant_costs,
    variant_table,
)


def write_report(config: StudyConfig, path: Path, *, works: list[Path] | None = None) -> Path:
    """Write the report of one seed, or of several (`works`, the first of which gives the pictures)."""
    study = Study(config)
    models = load_models(study)
    searches = by_search(read_results(works or [study.work]))
    first, results = next(iter(searches.items()))
    measure, rate_name = results["teacher"].measure, results["teacher"].rate_name
    columns, rows = system_table(results)
    tests = list(results["teacher"].tests)
    sections = [
        Section(
            "Result",
            f"{rate_name.capitalize()}s over the unseen test speakers{f', decoded by {first}' if first else ''}, with 95 % confidence intervals by the "
            "bootstrap over speakers. "
            "RTF: seconds of computation in the model for a second of audio, one utterance at a time, one CPU thread.",
            [
                Table(columns, rows),
                Table(*comparison_table(results), "Distilled against labeled only, paired over speakers."),
            ],
            [_bars(results)],
        ),
        Section(
            "Training",
            "Losses are means per frame; dev is the labeled loss of the averaged model.",
            figures=[_curves(study)],
        ),
        Section(
            "What the teacher believes",
            f"Soft targets of the untranscribed set, stored with the codec {config.codec}; one value an utterance.",
            figures=distributions(StoreFigures.of(Store.open(str(study.soft_store)))),
        ),
        calibration_section(study, models),
    ]
    if (variants := variant_table(works or [study.work], first)) and (costs := variant_costs(works or [study.work])):
        sections.append(Section("Students trained in other ways", tables=[Table(*variants), Table(*costs)]))
    for search in [*searches][1:]:
        tables = [Table(*system_table(searches[search])), Table(*comparison_table(searches[search]))]
        if further := variant_table(works or [study.work], search):
            tables.append(Table(*further, "Students trained in other ways."))
        sections.append(Section(f"Decoded by {search}", tables=tables))
    if points := speaker_curve(works or [study.work], first):
        figure = pictures.rate_curve(points, "untranscribed speakers", rate_name=rate_name)
        sections.append(
            Section("More untranscribed speakers", "The distilled student of more and more speakers.", figures=[figure])
        )
    if works and len(works) > 1:
        sections.append(Section("Seeds", tables=[Table(*seed_table(results), f"{measure} in percent.")]))
    by_speaker = [Table(*speaker_table(results, test), f"{measure} in percent, {test}.") for test in tests]
    sections.append(Section("Speakers", tables=by_speaker))
    sections += example_sections(study, models)
    seeds = len(works or [study.work])
    intro = f"Topology {config.topology}, {seeds} {'seed' if seeds == 1 else 'seeds'}."
    if warning := teacher_warning(results["teacher"].dev, results["labeled"].dev):
        intro += f" Warning: {warning}."
    return html.write_page(path, config.title, intro, sections)


def _bars(results: dict[str, SystemResult]) -> pictures.Figure:
    bars = []
    for system, result in results.items():
        for test, counts in result.tests.items():
            bars.append((NAMES[system], test, rate(counts), *bootstrap(counts)))
    return pictures.rate_bars(bars, rate_name=results["teacher"].rate_name)


def _curves(study: Study) -> pictures.Figure:
    curves = {folder.name: curves_of(folder) for folder in sorted((study.work / "runs").iterdir())}
    for of_run in curves.values():
        of_run.pop("learning_rate", None)
    return pictures.learning_curves({name: of_run for name, of_run in curves.items() if of_run})
