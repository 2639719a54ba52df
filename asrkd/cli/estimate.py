"""`asrkd estimate`."""

from __future__ import annotations

import dataclasses
import json

import click

from asrkd.cli import options
from asrkd.corpus.where import parse_where
from asrkd.labeling.crew import Crew
from asrkd.labeling.estimate import Estimate, Fleet
from asrkd.labeling.estimate import estimate as measure


@click.command("estimate", cls=options.TeacherCommand)
@click.argument("cuts", nargs=-1, required=True, metavar="CUTS...")
@click.option("--hours", type=float, required=True, help="Hours of audio to be labeled.")
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
    help="Minutes of audio that are labeled for the estimate.",
)
@click.option("--nodes", default=options.default_of(Fleet, "nodes"), help="Assumed: machines that label.")
@click.option(
    "--devices-per-node",
    default=options.default_of(Fleet, "devices_per_node"),
    help="Assumed: workers like this one on each.",
)
@click.option(
    "--student-rtfx",
    type=float,
    help="Assumed: audio seconds a second that one device trains a student on (asrkd train --dry-run).",
)
@click.option(
    "--student-devices", default=options.default_of(Fleet, "student_devices"), help="Assumed: devices that train it."
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
    nodes: int,
    devices_per_node: int,
    student_rtfx: float | None,
    student_devices: int,
    as_json: bool,
) -> None:
    """What HOURS of audio like CUTS will cost to label, to store and to read for a student, from a timed sample on this machine.

    What is measured here is printed separately from what is assumed. The bytes are those of the sample's shards, which as small ones are rather too
    large.
    """
    if teacher is None:
        raise click.UsageError("--teacher is missing: it is what takes the time")
    fleet = Fleet(nodes, devices_per_node, student_rtfx, student_devices)
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
        fleet=fleet,
    )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found)))
        return
    click.echo("\n".join(_told(found, fleet)))


def _told(found: Estimate, fleet: Fleet) -> list[str]:
    hours, devices = found.hours, fleet.nodes * fleet.devices_per_node
    largest = sorted(found.column_bytes.items(), key=lambda column: -column[1])
    lines = [
        "measured on this machine",
        f"  sample     {found.sample_seconds / 60:.1f} minutes at {found.rtfx:.1f} times real time",
        f"  bytes      {found.num_bytes / hours / 1e6:.2f} MB an hour: "
        + ", ".join(f"{name} {size / hours / 1e6:.2f}" for name, size in largest if size >= 0.001 * found.num_bytes),
        f"scaled to {hours:g} hours, assuming that they are like the sample",
        f"  work       {found.worker_hours:.2f} hours of one worker like this one",
        f"  store      {found.num_bytes / 1e9:.3f} GB in {found.units} shards: {found.utterances:.3g} utterances, {found.frames:.3g} frames",
        f"  catalog    {found.catalog_bytes / 1e9:.3f} GB",
        f"  requests   {found.label_requests:.3g} to label (plans, shards), {found.epoch_requests:.3g} for an epoch of a student",
        f"assuming {fleet.nodes} nodes of {fleet.devices_per_node} devices as fast as this one, none of which waits or is lost",
        f"  days       {found.days:.2f} on {devices} devices",
    ]
    if found.epoch_days is not None and found.epoch_bytes_per_second is not None:
        lines += [
            f"assuming a student at {fleet.student_rtfx:g} times real time on each of {fleet.student_devices} devices",
            f"  epoch      {found.epoch_days:.2f} days, reading {found.epoch_bytes_per_second / 1e6:.1f} MB/s together",
        ]
    return lines
