"""`asrkd corpus`: look at a corpus, and measure it."""

from __future__ import annotations

from pathlib import Path

import click

from asrkd import files
from asrkd.cli import options
from asrkd.cli.progress import ProgressBar
from asrkd.report.corpus import write_corpus_page
from asrkd.selection.measure import measure_corpus, unreadable_file
from asrkd.selection.overview import look_at

_WORKERS = click.option("--workers", type=click.IntRange(1), default=1, help="Processes, each with one thread.")


@click.group()
def corpus() -> None:
    """See what a corpus holds before it is labeled, and choose from it."""


@corpus.command("look")
@click.argument("cuts")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--sample",
    type=click.IntRange(1),
    default=options.default_of(look_at, "sample"),
    help="Cuts whose audio is read, chosen at random.",
)
@click.option(
    "--clips",
    type=click.IntRange(0, 200),
    default=options.default_of(write_corpus_page, "clips"),
    help="Cuts that can be played, about 80 kB each.",
)
@click.option("--seed", default=0, help="Another one chooses others.")
@options.CHANNEL
@_WORKERS
def look_command(cuts: str, out: Path, sample: int, clips: int, seed: int, channel: int | None, workers: int) -> None:
    """Write a page OUT (.html) that shows a corpus: lengths, rates, formats, levels, what is broken, and some of it to play.

    CUTS is a corpus of any form, as for `asrkd label plan`.
    """
    files.check_file(out)
    progress = ProgressBar()
    overview = look_at(
        cuts,
        sample=sample,
        seed=seed,
        workers=workers,
        channel=channel,
        progress=lambda what, done: progress.show(what, done, None),
    )
    progress.close()
    write_corpus_page(out, cuts, overview, clips=clips)
    click.echo(f"{overview.cuts:,} cuts, {overview.seconds / 3600:.2f} hours, {overview.num_broken:,} broken: {out}")


@corpus.command("measure")
@click.argument("cuts")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--language-model",
    default="",
    metavar="SPEC",
    help="Multilingual text teacher (docs/teachers.md) by which spoken_language is found, e.g. text:transformers:openai/whisper-tiny; none by default.",
)
@options.CHANNEL
@_WORKERS
def measure_command(cuts: str, out: Path, language_model: str, channel: int | None, workers: int) -> None:
    """Write the cuts of a corpus as a manifest OUT (.jsonl, .jsonl.gz) with what was measured in their audio.

    Custom fields: level_dbfs, peak_dbfs, clipping (share of samples at full scale), snr_db (an estimate), and duplicate_of, the id of the first cut with the same audio, also in
    another format or at another rate. Then `label plan OUT STORE --where 'custom.snr_db>=15' --where 'custom.duplicate_of='` takes what is clean and no copy.
    With --language-model also spoken_language and spoken_language_probability, of the first 30 s.
    """
    with ProgressBar() as progress:
        tally = measure_corpus(
            cuts,
            out,
            workers=workers,
            channel=channel,
            language_model=language_model,
            progress=lambda done, seconds: progress.show("measure", done, None, seconds=seconds),
        )
    click.echo(
        f"{tally.cuts - tally.unreadable:,} cuts, {tally.hours:.2f} hours, {tally.duplicates:,} copies of others: {out}"
    )
    if tally.unreadable:
        click.echo(f"{tally.unreadable:,} cuts could not be read; {unreadable_file(out)} says why", err=True)
