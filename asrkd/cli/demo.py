"""`asrkd demo`: the whole study on a synthetic corpus, offline."""

from __future__ import annotations

import click

from asrkd.cli import options
from asrkd.cli.progress import ProgressBar


@click.command("demo")
@click.argument("workdir", default="asrkd-demo", type=click.Path(file_okay=False))
@click.option("--seed", default=1, help="Seed of the corpus and of all training.")
@options.STUDY_WORKERS
def demo_command(workdir: str, seed: int, workers: int) -> None:
    """The whole study on a small synthetic corpus in WORKDIR: offline, in minutes, on a CPU.

    Synthesises speech, trains a teacher on a few transcripts, labels the untranscribed part, distills a streaming
    student, and writes a table and a report. Run it again to resume; a finished demo prints its table at once.
    """
    from asrkd_recipes.demo.run import run_demo  # it brings matplotlib, for which no other command should wait

    with ProgressBar() as progress:
        said = run_demo(workdir, seed=seed, workers=workers, progress=progress.show)
    click.echo(said)
