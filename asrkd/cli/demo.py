"""`asrkd demo`: the whole study on a synthetic corpus, offline."""

from __future__ import annotations

import click

from asrkd.cli import options
from asrkd.cli.progress import ProgressBar


@click.command("demo")
@click.argument("workdir", default="asrkd-demo", type=click.Path(file_okay=False))
@click.option("--seed", default=1, help="Seed of the corpus and of all training.")
@click.option(
    "--voices",
    default="espeak",
    metavar="SPEC",
    help="Synthesizer of the corpus: espeak, or kokoro:FOLDER, a Kokoro model as sherpa-onnx publishes it (also kokoro, with the folder in ASRKD_KOKORO).",
)
@options.STUDY_WORKERS
def demo_command(workdir: str, seed: int, voices: str, workers: int) -> None:
    """The whole study on a small synthetic corpus in WORKDIR: offline, in minutes, on a CPU.

    Synthesises speech, trains a teacher on a few transcripts, labels the untranscribed part, distills a streaming
    student, and writes a table and a report. The voices of Kokoro (pip install 'asrkd[demo,export]') sound more like
    people, and are slow to synthesize. Run it again to resume; a finished demo prints its table at once.
    """
    from asrkd_recipes.demo.run import run_demo  # it brings matplotlib, for which no other command should wait

    with ProgressBar() as progress:
        said = run_demo(workdir, seed=seed, workers=workers, progress=progress.show, voices=voices)
    click.echo(said)
