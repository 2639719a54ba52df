"""The demo: the whole study on a synthetic corpus."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from asrkd import config as configs
from asrkd.files import check_folder
from asrkd.report.tables import text_table
from asrkd_recipes.demo.corpus import make_corpus
from asrkd_recipes.demo.voices import make_synthesizer
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.jobs import StageProgress
from asrkd_recipes.study.report import write_report
from asrkd_recipes.study.results import read_results
from asrkd_recipes.study.run import Study
from asrkd_recipes.study.tables import comparison_table, system_table


def run_demo(workdir: str, *, seed: int, workers: int, progress: StageProgress, voices: str) -> str:
    """Run or resume the demo; returns its tables as text.

    Args:
        voices: `espeak`, `kokoro:FOLDER`, or `kokoro` with the folder in the environment.

    Raises:
        ConfigError: no such voices, or the folder holds a demo of others.
        DependencyError: the synthesizer is missing.
    """
    synthesizer = make_synthesizer(voices)
    root = Path(workdir).absolute()
    check_folder(root)
    data = root / "data"
    make_corpus(
        data,
        seed=seed,
        progress=lambda split, done, total: progress(f"synthesize {split}", done, total),
        synthesizer=synthesizer,
    )
    with resources.as_file(resources.files("asrkd_recipes.demo") / "study.yaml") as path:
        config = configs.load(StudyConfig, path, [f"work={root / 'study'}", f"data={data}", f"seed={seed}"])
    for system in (config.teacher, config.student):
        system.augment.noise = [str(data / "noise/train")]
    Study(config, workers=workers, progress=progress).run()
    report = root / "report.html"
    if not report.exists():
        write_report(config, report)
    results = read_results([Path(config.work)])
    tables = [text_table(*system_table(results)), text_table(*comparison_table(results))]
    return "\n\n".join([*tables, f"report: {report}"])
