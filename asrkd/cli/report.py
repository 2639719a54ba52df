"""`asrkd report`: pages of one file about stores, trainings and scores."""

from __future__ import annotations

from pathlib import Path

import click

from asrkd import files
from asrkd.cli import options
from asrkd.cli.progress import ProgressBar
from asrkd.corpus.cuts import iterate, open_cuts
from asrkd.errors import ConfigError
from asrkd.evaluation.files import read_hypotheses, speakers_of
from asrkd.evaluation.wer import score
from asrkd.report import html
from asrkd.report.clips import SECONDS, clip_of_cut
from asrkd.report.errors import error_sections
from asrkd.report.html import PlayableClip, check_report
from asrkd.report.run import is_run, write_run_page
from asrkd.report.store import write_store_page
from asrkd.store import Store, manifest
from asrkd.store.files import Files


@click.command("report")
@click.argument("source")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--utterances",
    type=click.IntRange(0, 200),
    default=options.default_of(write_store_page, "utterances"),
    help="Utterances that are shown: of a store at even distances, of scores those with the most errors.",
)
@click.option(
    "--snapshot", default="", show_default="none", help="Name of a snapshot of the store, whose units alone are seen."
)
@click.option("--cuts", metavar="CUTS", help="Test set of the scores, for the audio of its utterances.")
def report_command(source: str, out: Path, utterances: int, snapshot: str, cuts: str | None) -> None:
    """Write a page OUT (.html) about SOURCE: a store, the folder of a training, or what `asrkd decode` wrote.

    \b
      asrkd report exp/soft soft.html
      asrkd report exp/student student.html
      asrkd report exp/decoded errors.html --cuts test.jsonl.gz

    A store's page shows what the teacher believes and what the codec keeps, with audio; a training's page its losses and config; a page of scores the errors by
    word, speaker and utterance. Each is one file that needs no network.
    """
    check_report()
    files.check_file(out)
    folder = Path(source)
    names = sorted(path.name.removeprefix("hyp-").removesuffix(".txt") for path in folder.glob("hyp-*.txt"))
    is_store = Files(source).exists(manifest.NAME)
    for option, given, fits, wanted in (
        ("--cuts", cuts, bool(names), "folder of scores"),
        ("--snapshot", snapshot, is_store, "store"),
    ):
        if given and not fits:
            raise ConfigError(f"{option} is {given!r}, but {source!r} is not a {wanted}; leave it out")
    if not (is_store or is_run(folder) or names):
        raise ConfigError(
            f"{source!r} is neither a store ({manifest.NAME}), nor the folder of a training (config.yaml), nor what asrkd decode writes "
            "(hyp-NAME.txt and ref-NAME.txt), so there is nothing to report on"
        )
    with ProgressBar(quiet_seconds=2.0) as progress:
        if is_store:
            write_store_page(
                out,
                Store.open(source, snapshot),
                utterances=utterances,
                progress=lambda done, total, seconds: progress.show("read", done, total, seconds=seconds),
            )
        elif is_run(folder):
            write_run_page(out, folder)
        else:
            _write_errors(out, folder, names, cuts, utterances, progress)
    click.echo(str(out))


def _write_errors(
    out: Path, folder: Path, names: list[str], cuts: str | None, utterances: int, progress: ProgressBar
) -> None:
    by_id = {cut.id: cut for cut in iterate(open_cuts(cuts), what=cuts)} if cuts else {}
    made, seconds = 0, 0.0

    def clip(key: str, caption: str) -> PlayableClip | None:
        nonlocal made, seconds
        if key not in by_id:
            return None
        made, seconds = made + 1, seconds + min(by_id[key].duration, SECONDS)
        found = clip_of_cut(caption, by_id[key])
        progress.show("audio", made, utterances * len(names), seconds=seconds)
        return found

    sections = []
    for name in names:
        references = folder / f"ref-{name}.txt"
        if not references.exists():
            raise ConfigError(
                f"{str(folder / f'hyp-{name}.txt')!r} has no {references.name} next to it; decode with asrkd decode, which writes both"
            )
        scored = score(
            read_hypotheses(references), read_hypotheses(folder / f"hyp-{name}.txt"), speakers_of(references)
        )
        sections += error_sections(scored, name=name if len(names) > 1 else "", utterances=utterances, clip=clip)
    html.write_page(out, "Errors", str(folder), sections)
