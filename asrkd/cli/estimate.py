"""`asrkd estimate`."""

from __future__ import annotations

import dataclasses
import json

import click

from asrkd.cli import options
from asrkd.corpus.where import parse_where
from asrkd.labeling.crew import Crew
from asrkd.labeling.estimate import estimate as measure


@click.command("estimate", cls=options.ModelCommand)
@click.argument("cuts", nargs=-1, required=True, metavar="CUTS...")
@click.option("--hours", type=float, required=True, help="Of audio to be labeled.")
@options.TEACHER
@options.CODEC
@options.EMBED
@options.AUTOCAST
@options.COMPILE
@options.UNIT_HOURS
@options.WHERE
@options.DEVICE
@options.READERS
@options.READ_SECONDS
@click.option(
    "--sample-minutes",
    default=options.default_of(measure, "sample_minutes"),
    help="Of audio that is labeled for the estimate.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def estimate_command(
    cuts: tuple[str, ...],
    hours: float,
    teacher: str | None,
    codec: str | None,
    embed: str,
    autocast: str | None,
    compile: bool,
    unit_hours: float,
    where: tuple[str, ...],
    device: str,
    readers: int,
    read_seconds: float,
    sample_minutes: float,
    as_json: bool,
) -> None:
    """What labeling HOURS of audio like CUTS will cost, from a timed sample on this machine.

    The speed is that of one worker here; the bytes are those of the sample's shards, which as small ones are rather too large.
    """
    if teacher is None:
        raise click.UsageError("--teacher is missing: it is what takes the time")
    found = measure(
        cuts,
        hours=hours,
        teacher=teacher,
        codec=codec,
        embed=embed,
        autocast=autocast or "",
        compile=compile,
        unit_hours=unit_hours,
        where=[parse_where(condition) for condition in where],
        sample_minutes=sample_minutes,
        crew=Crew(1, device.split(","), readers, read_seconds),
    )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found)))
        return
    click.echo(f"sample     {found.sample_seconds / 60:.1f} minutes at {found.rtfx:.1f} times real time")
    click.echo(f"work       {found.worker_hours:.2f} hours of one worker like this one")
    click.echo(f"store      {found.num_bytes / 1e9:.3f} GB in {found.units} shards")
