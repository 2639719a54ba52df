"""`asrkd label`: plan, codebooks, grow, run, work, retry, status."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource
from tqdm import tqdm

from asrkd import config
from asrkd.acoustic import load_model
from asrkd.cli import options
from asrkd.cli.progress import PlanProgress, ProgressBar
from asrkd.corpus.front_end import PRESETS
from asrkd.corpus.waveform import front_end_from_dict
from asrkd.corpus.where import parse_where
from asrkd.files import check_file
from asrkd.labeling import job, scheduler
from asrkd.labeling import plan as planning
from asrkd.labeling import status as state
from asrkd.labeling.array import ArrayBackend
from asrkd.labeling.crew import Crew
from asrkd.labeling.layer import make_codebooks
from asrkd.labeling.local import Local
from asrkd.labeling.ray_cluster import RayCluster, Resources
from asrkd.labeling.reading import MAX_SECONDS
from asrkd.labeling.stop import Terminated, terminated_by_signal
from asrkd.labeling.worker import UnitResult
from asrkd.store import Store


@click.group()
def label() -> None:
    """Run a teacher over audio and store its soft targets."""


@label.command("plan", cls=options.TeacherCommand)
@click.argument("cuts", nargs=-1, required=True, metavar="CUTS...")
@click.argument("store")
@options.TEACHER
@options.CODEC
@options.EMBED
@options.AUTOCAST
@options.COMPILE
@click.option(
    "--layer",
    default="",
    show_default=False,
    metavar="MODULE",
    help="Also store what this layer of the teacher's model gives.",
)
@click.option(
    "--codebooks",
    default="",
    show_default=False,
    metavar="FILE",
    help="Store it as indexes into these (label codebooks).",
)
@options.UNIT_HOURS
@options.WHERE
@options.CHANNEL
@click.option(
    "--front-end",
    metavar="PRESET|FILE",
    help=f"For a store without a teacher or of a text teacher: {', '.join(PRESETS)}, or a YAML file of front end settings.  [default: study]",
)
def plan_command(
    cuts: tuple[str, ...],
    store: str,
    teacher: str | None,
    codec: str | None,
    embed: str,
    autocast: str | None,
    compile: bool,
    layer: str,
    codebooks: str,
    unit_hours: float,
    where: tuple[str, ...],
    channel: int | None,
    front_end: str | None,
) -> None:
    """Cut one or more corpora, CUTS, into work units and freeze them in the new STORE.

    CUTS is a manifest of lhotse or NeMo, a Shar or Kaldi folder, a Hugging Face dataset, tar files of webdataset, a .tsv/.csv table (also of Common
    Voice) or a folder of audio: docs/corpora.md.
    """
    settings = None
    if front_end:
        given = {"preset": front_end} if front_end in PRESETS else config.read_yaml(front_end)
        settings = front_end_from_dict(given)
    show = PlanProgress()
    made = planning.plan(
        cuts,
        store,
        teacher=teacher,
        codec=codec,
        embed=embed,
        autocast=autocast or "",
        compile=compile,
        layer=layer,
        codebooks=codebooks,
        unit_hours=unit_hours,
        where=[parse_where(condition) for condition in where],
        front_end=settings,
        channel=channel,
        progress=show,
    )
    show.close()
    click.echo(
        f"planned {made.plan['num_cuts']} cuts, {made.plan['hours']:.3f} h, {made.plan['num_units']} units in {store} "
        f"({show.rate(made.plan['num_cuts']):.0f} cuts/s)"
    )
    _tell_losses(made.plan, {})


def _tell_losses(plan: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """What labeling will not use of the cuts that were planned now, by the summaries of the plan now and before."""
    new = {
        name: plan.get(name, 0) - before.get(name, 0) for name in ("num_unreadable", "num_without_text", "num_too_long")
    }
    if new["num_unreadable"]:
        click.echo(
            f"{new['num_unreadable']} cuts cannot be used (audio, times or transcript); they will go to quarantine, each with its reason",
            err=True,
        )
    if new["num_without_text"]:
        click.echo(
            f"the text of {new['num_without_text']} cuts is left out: their supervisions reach beyond the cut, or overlap",
            err=True,
        )
    if new["num_too_long"]:
        click.echo(
            f"{new['num_too_long']} cuts are longer than {_said(plan.get('max_seconds', MAX_SECONDS))}, too long for a model; they will go to quarantine. Cut them into "
            "segments with asrkd segment, and plan those",
            err=True,
        )


def _said(seconds: float) -> str:
    return f"{seconds / 3600:g} hours" if seconds >= 3600 else f"{seconds:g} s"


@label.command("codebooks", cls=options.ModelCommand)
@click.argument("cuts")
@click.argument("out", type=click.Path(dir_okay=False))
@click.option("--teacher", required=True, metavar="SPEC", help="Whose layer.")
@click.option("--layer", required=True, metavar="MODULE", help="Name of the layer in the teacher's model.")
@click.option("--count", default=8, help="Codebooks; their number must divide the layer's dimensions.")
@click.option("--entries", default=256, help="Entries of each, 2 to 256.")
@click.option(
    "--max-frames",
    default=options.default_of(make_codebooks, "max_frames"),
    help="Frames to fit them to, from the first cuts on.",
)
def codebooks_command(cuts: str, out: str, teacher: str, layer: str, count: int, entries: int, max_frames: int) -> None:
    """Fit codebooks to what a layer of a teacher gives for CUTS, for label plan --codebooks."""
    check_file(out)
    frames, kept = make_codebooks(
        cuts, out, teacher=load_model(teacher), layer=layer, count=count, entries=entries, max_frames=max_frames
    )
    click.echo(
        f"{count} codebooks of {entries} entries in {out}, fitted to {frames} frames: they keep {kept:.1%} of the variance"
    )


@label.command("grow")
@click.argument("cuts", nargs=-1, required=True, metavar="CUTS...")
@click.argument("store")
@options.UNIT_HOURS
@options.WHERE
@options.CHANNEL
def grow_command(
    cuts: tuple[str, ...], store: str, unit_hours: float, where: tuple[str, ...], channel: int | None
) -> None:
    """Add the cuts of grown corpora that STORE has not planned yet, as further units.

    Units that are planned or finished do not change; cuts that were planned or deleted before are passed over.
    """
    show = PlanProgress()
    conditions = [parse_where(condition) for condition in where]
    opened = Store.open(store)
    made, added = planning.grow(cuts, opened, unit_hours=unit_hours, where=conditions, channel=channel, progress=show)
    show.close()
    click.echo(
        f"added {added} cuts; {made.plan['num_cuts']} cuts, {made.plan['num_units']} units are planned in {store}"
    )
    _tell_losses(made.plan, opened.plan)


@label.command("run")
@click.argument("store")
@click.option("--backend", type=click.Choice(["local", "ray"]), default="local", help="Who runs the units.")
@options.WORKERS
@options.DEVICE
@options.READERS
@options.READ_SECONDS
@click.option(
    "--max-quarantined",
    default=options.default_of(job.run, "max_quarantined"),
    help="Share of bad cuts at which the job stops.",
)
@click.option("--address", help="Ray: of the cluster, e.g. auto; without one a cluster is started on this machine.")
@click.option("--cpus", default=Resources.cpus, help="Ray: cores of a worker, its readers included.")
@click.option(
    "--gpus", default=Resources.gpus, help="Ray: GPUs of a worker, which sees only these; may be a share of one."
)
@click.pass_context
def run_label_command(
    context: click.Context,
    store: str,
    backend: str,
    workers: int,
    device: str,
    readers: int,
    read_seconds: float,
    max_quarantined: float,
    address: str | None,
    cpus: float,
    gpus: float,
) -> None:
    """Label every unit of STORE that has no shard yet. Safe to kill and to run again.

    SIGTERM (pre-emption) gives up the units in work and ends with exit code 0 within seconds. With Ray, --workers is the most that
    run at a time; fewer do until the cluster has room for all.
    """
    for name in ("address", "cpus", "gpus"):
        if backend != "ray" and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name} is for --backend ray; the local backend takes --workers and --device")
    progress = ProgressBar()

    def show(tally: job.Tally, result: UnitResult) -> None:
        facts = {"quarantined": tally.num_bad}
        progress.show("label", tally.done, tally.units, facts, seconds=tally.seconds)

    try:
        with terminated_by_signal():
            crew = Crew(workers, device.split(","), readers, read_seconds)
            opened = Store.open(store)
            chosen: job.Backend = Local(opened, crew)
            if backend == "ray":
                chosen = RayCluster(opened, crew, address, Resources(cpus, gpus))
            tally = job.run(chosen, max_quarantined=max_quarantined, progress=show)
    except Terminated:
        click.echo("stopped by SIGTERM; finished units are kept, run again to resume", err=True)
        return
    finally:
        progress.close()
    click.echo(f"labeled {tally.labeled} units ({tally.seconds / 3600:.3f} h); {tally.found} were finished before")


@label.command("work")
@click.argument("store")
@click.option(
    "--index",
    type=click.IntRange(0),
    help="Which of the tasks this is.  [default: from the environment, in arrays of Slurm, Grid Engine, PBS, LSF, AWS Batch and Kubernetes]",
)
@click.option(
    "--count", type=click.IntRange(1), help="How many tasks there are; not needed, it spreads where the tasks begin."
)
@click.option(
    "--lease-seconds",
    default=options.default_of(ArrayBackend, "lease_seconds"),
    help="Seconds without a heartbeat after which a task is presumed dead.",
)
@options.DEVICE
@options.READERS
@options.READ_SECONDS
@click.option(
    "--max-quarantined",
    default=options.default_of(job.run, "max_quarantined"),
    help="Share of bad cuts at which the task stops.",
)
def work_command(
    store: str,
    index: int | None,
    count: int | None,
    lease_seconds: float,
    device: str,
    readers: int,
    read_seconds: float,
    max_quarantined: float,
) -> None:
    """Label as one task of an array: Slurm, Kubernetes, or any machines that reach STORE.

    The tasks need no coordinator. Each begins with its share, then helps the others and takes over the units of tasks that die; it
    ends when all of STORE is labeled. After SIGTERM the exit code is 143, so that the scheduler knows that the task is not done.
    """
    if index is None:
        found = scheduler.array_task(os.environ)
        if found is None:
            raise click.UsageError(f"--index is missing, and none of {', '.join(scheduler.VARIABLES)} is set")
        index, count = found.index, count or found.count
    progress = ProgressBar()

    def show(tally: job.Tally, result: UnitResult) -> None:
        facts = {"unit": result.unit, "quarantined": tally.num_bad}
        progress.show("label", tally.done, tally.units, facts, seconds=tally.seconds)

    try:
        with terminated_by_signal():
            crew = Crew(1, device.split(","), readers, read_seconds)
            task = ArrayBackend(Store.open(store), index, count, crew, lease_seconds)
            tally = job.run(task, max_quarantined=max_quarantined, progress=show)
    except Terminated:
        click.echo("stopped by SIGTERM; finished units are kept, other tasks take over the rest", err=True)
        sys.exit(128 + signal.SIGTERM)
    finally:
        progress.close()
    click.echo(f"labeled {tally.labeled} units ({tally.seconds / 3600:.3f} h); {tally.found} were finished before")


@label.command("retry")
@click.argument("store")
@options.WORKERS
@options.DEVICE
@options.READERS
@options.READ_SECONDS
def retry_command(store: str, workers: int, device: str, readers: int, read_seconds: float) -> None:
    """Label the units of STORE again that have cuts in quarantine, after their audio was fixed.

    Files that could not even be opened when STORE was planned come in by asrkd label grow.
    """
    progress = ProgressBar()
    try:
        with terminated_by_signal():
            crew = Crew(workers, device.split(","), readers, read_seconds)
            before, after = job.retry(
                Local(Store.open(store), crew),
                progress=lambda tally, result: progress.show("retry", tally.done, tally.units, seconds=tally.seconds),
            )
    except Terminated:
        click.echo("stopped by SIGTERM; finished units are kept, run again to resume", err=True)
        return
    finally:
        progress.close()
    click.echo(f"quarantine: {before} cuts before, {after} after")


@label.command("status")
@click.argument("store")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option(
    "--prometheus",
    "as_prometheus",
    is_flag=True,
    help="Print Prometheus' text format, for a node exporter's text file.",
)
@click.option("--watch", type=float, metavar="SECONDS", help="Look again every SECONDS, until all is done.")
def status_command(store: str, as_json: bool, as_prometheus: bool, watch: float | None) -> None:
    """How far the labeling of STORE has come.

    The state is read from the files of STORE, so it can be asked from anywhere, whoever labels.
    """
    if as_json and as_prometheus:
        raise click.UsageError("--json and --prometheus are two formats; give one")
    if watch is not None and watch <= 0:
        raise click.UsageError(f"--watch is {watch}, but must be above 0 seconds")
    watched = state.Watch(Store.open(store))
    while True:
        found = watched.look()
        if watch is not None and sys.stdout.isatty():
            click.clear()
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(found)))
        elif as_prometheus:
            click.echo(state.prometheus(found), nl=False)
        else:
            click.echo(_shown(found))
        if watch is None or found.units_done == found.units:
            return
        time.sleep(watch)


def _shown(found: state.Status) -> str:
    lines = [
        f"units      {found.units_done} of {found.units} done, {len(found.leased)} leased",
        f"hours      {found.hours_done:.3f} of {found.hours:.3f}",
        f"utterances {found.utterances} of {found.cuts} cuts, {found.num_bytes / 1e6:.1f} MB",
    ]
    if found.rtfx is not None:
        eta = "" if found.eta_seconds is None else f", done in {tqdm.format_interval(found.eta_seconds)}"
        lines.append(f"speed      {found.rtfx:.1f} times real time{eta}")
    lines += [f"  unit {one.unit} since {tqdm.format_interval(one.seconds)}: {one.owner}" for one in found.leased[:5]]
    lines.append(f"quarantine {found.num_quarantined}")
    lines += [f"  {count} x {reason}" for reason, count in found.reasons.items()]
    lines += [f"  {key}: {reason}" for key, reason in found.quarantine[:10]]
    return "\n".join(lines)
