"""`asrkd label`: plan, run, status."""

from __future__ import annotations

import dataclasses
import json
import time

import click

from asrkd import config
from asrkd.cli.progress import Progress
from asrkd.corpus.front_end import FrontEnd
from asrkd.labeling import local
from asrkd.labeling import plan as planning
from asrkd.labeling import status as state
from asrkd.labeling.worker import UnitResult
from asrkd.store.identity import EMBEDS


@click.group()
def label() -> None:
    """Run a teacher over audio and store its soft targets."""


@label.command()
@click.argument("cuts")
@click.argument("store")
@click.option(
    "--teacher",
    metavar="SPEC",
    help="checkpoint:PATH, torchscript:PATH, python:package.module:factory or ensemble:FILE. Without one the store holds transcripts only (the labeled set).",
)
@click.option("--codec", help="dense, topk:K, nucleus:P:K_MAX, sampled:N or hybrid:HEAD:N.  [default: topk:20]")
@click.option(
    "--embed",
    type=click.Choice(EMBEDS),
    default="audio",
    help="What the rows carry besides targets; a student needs audio or features.",
)
@click.option("--unit-hours", default=1.0, help="Hours of audio in a work unit.")
@click.option(
    "--front-end", type=click.Path(dir_okay=False), help="YAML of front end settings, for a store without a teacher."
)
def plan(
    cuts: str, store: str, teacher: str | None, codec: str | None, embed: str, unit_hours: float, front_end: str | None
) -> None:
    """Cut the corpus CUTS into work units and freeze them in the new STORE.

    CUTS is a lhotse manifest (.jsonl, .jsonl.gz), a Shar folder, a folder of audio, or a .tsv/.csv table.
    """
    settings = config.load(FrontEnd, front_end) if front_end else None
    progress = Progress()
    made = planning.plan(
        cuts,
        store,
        teacher=teacher,
        codec=codec,
        embed=embed,
        unit_hours=unit_hours,
        front_end=settings,
        progress=lambda done, hours: (
            progress.show("plan", done, max(done, 1), f"{hours:.2f} h") if done % 1000 == 0 else None
        ),
    )
    progress.close()
    click.echo(
        f"planned {made.plan['num_cuts']} cuts, {made.plan['hours']:.3f} h, {made.plan['num_units']} units in {store}"
    )


@label.command()
@click.argument("store")
@click.option("--backend", type=click.Choice(["local"]), default="local", help="Who runs the units.")
@click.option("--workers", default=1, help="Processes, one thread each; any number gives the same bytes.")
@click.option("--max-quarantined", default=0.01, help="Share of bad cuts at which the job stops.")
def run(store: str, backend: str, workers: int, max_quarantined: float) -> None:
    """Label every unit of STORE that has no shard yet. Safe to kill and to run again."""
    progress, began, seconds = Progress(), time.monotonic(), 0.0

    def show(result: UnitResult, done: int, total: int) -> None:
        nonlocal seconds
        seconds += result.seconds
        rtfx = seconds / (time.monotonic() - began)
        progress.show(
            "label", done, total, f"{seconds / 3600:.2f} h RTFx {rtfx:.0f} quarantined {len(result.quarantined)}"
        )

    try:
        summary = local.run(store, workers=workers, max_quarantined=max_quarantined, progress=show)
    finally:
        progress.close()
    click.echo(f"labeled {summary.labeled} units ({summary.seconds / 3600:.3f} h), found {summary.found} finished")


@label.command()
@click.argument("store")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def status(store: str, as_json: bool) -> None:
    """How far the labeling of STORE has come."""
    found = state.status(store)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found)))
        return
    click.echo(f"units      {found.units_done} of {found.units} done")
    click.echo(f"hours      {found.hours_done:.3f} of {found.hours:.3f}")
    click.echo(f"utterances {found.utterances} of {found.cuts} cuts, {found.num_bytes / 1e6:.1f} MB")
    click.echo(f"quarantine {len(found.quarantine)}")
    for key, reason in found.quarantine[:10]:
        click.echo(f"  {key}: {reason}")
