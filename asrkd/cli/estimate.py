"""`asrkd estimate`."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from typing import Any

import click

from asrkd.acoustic import load_model
from asrkd.cli import options
from asrkd.corpus.where import parse_where
from asrkd.decoding.evaluation_set import EvaluationSet
from asrkd.evaluation.teacher_error import ErrorRates, errors_of, not_better
from asrkd.labeling.crew import Crew
from asrkd.labeling.estimate import Estimate, Fleet
from asrkd.labeling.estimate import estimate as measure
from asrkd.text_teachers import is_text_spec, load_text_teacher

_log = logging.getLogger(__name__)


@click.command("estimate", cls=options.TeacherCommand)
@click.argument("cuts", nargs=-1, metavar="[CUTS]...")
@click.option("--hours", type=float, help="Hours of audio to be labeled; needed with CUTS.")
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
@click.option(
    "--dev", metavar="CUTS", help="Transcribed cuts: tell the teacher's error on them, with each decoder that fits it."
)
@click.option(
    "--against",
    multiple=True,
    metavar="SPEC",
    help="A student, or another model, that the teacher should be better than on --dev; may be given again.",
)
@click.option(
    "--lexicon",
    metavar="FILE|KIND:FILE",
    help="Lexicon for --dev: the teacher's words, and those of the others that have none.  [default: what each was trained with]",
)
@click.option(
    "--grammar",
    type=click.Path(dir_okay=False),
    help="Language model for --dev, for the decoders beam and graph: an ARPA file.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def estimate_command(
    cuts: tuple[str, ...],
    hours: float | None,
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
    dev: str | None,
    against: tuple[str, ...],
    lexicon: str | None,
    grammar: str | None,
    as_json: bool,
) -> None:
    """What HOURS of audio like CUTS will cost to label, to store and to read for a student, from a timed sample on this machine; and how good the
    teacher is, on transcribed cuts (--dev).

    What is measured here is printed separately from what is assumed. The bytes are those of the sample's shards, which as small ones are rather too
    large. Errors are of texts in lower case without punctuation.
    """
    if teacher is None:
        raise click.UsageError("--teacher is missing: it is what takes the time")
    if bool(cuts) != (hours is not None):
        raise click.UsageError("CUTS and --hours go together: a sample of the audio, and how much of it there is")
    if not cuts and not dev:
        raise click.UsageError(
            "give CUTS and --hours to tell what labeling costs, --dev to tell how good the teacher is"
        )
    if dev is None and (against or lexicon or grammar):
        raise click.UsageError("--against, --lexicon and --grammar are for --dev, which is missing")
    fleet = Fleet(nodes, devices_per_node, student_rtfx, student_devices)
    place = device.split(",")[0]
    told: dict[str, Any] = {}
    lines: list[str] = []
    if dev is not None:
        known = EvaluationSet.read(dev)
        errors = [_errors(teacher, known, place, lexicon, grammar, autocast=autocast or "", compile=compile)]
        errors += [_errors(spec, known, place, lexicon, grammar, is_teacher=False) for spec in against]
        warnings = [warning for other in errors[1:] if (warning := not_better(errors[0], other, repr(dev)))]
        told |= {"dev": [dataclasses.asdict(one) for some in errors for one in some], "warnings": warnings}
        for warning in warnings:
            _log.warning("%s", warning)
        lines += _told_errors(errors, dev)
    if hours is not None:
        cost = measure(
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
        told |= dataclasses.asdict(cost)
        lines += _told(cost, fleet)
    click.echo(json.dumps(told) if as_json else "\n".join(lines))


def _errors(
    spec: str,
    dev: EvaluationSet,
    device: str,
    lexicon: str | None,
    grammar: str | None,
    *,
    is_teacher: bool = True,
    autocast: str = "",
    compile: bool = False,
) -> list[ErrorRates]:
    if is_text_spec(spec):
        return errors_of(load_text_teacher(spec, device), dev)
    model = load_model(spec, device, autocast=autocast, compile=compile)
    tokenizer = model.tokenizer
    if lexicon and (is_teacher or tokenizer is None):
        tokenizer = options.tokenizer_of(model, lexicon)
    return errors_of(model, dev, tokenizer=tokenizer, grammar=grammar)


def _told_errors(errors: Sequence[Sequence[ErrorRates]], dev: str) -> list[str]:
    first = errors[0][0]
    lines = [f"error on {dev}: {first.utterances} utterances, {first.words} words"]
    for number, some in enumerate(errors):
        lines.append(f"  {'against' if number else 'teacher'} {some[0].model}")
        lines += [f"    {one.decoder:<9}  WER {100 * one.wer:.2f} %, CER {100 * one.cer:.2f} %" for one in some]
    return lines


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
