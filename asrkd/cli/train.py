"""`asrkd train`, `asrkd align` and `asrkd weigh`."""

from __future__ import annotations

import click

from asrkd import config
from asrkd.alignment.align_store import ALIGNERS, align_store
from asrkd.alignment.summary import ODDITY
from asrkd.cli import options
from asrkd.cli.progress import ProgressBar
from asrkd.corpus.inventory import InventoryConfig
from asrkd.distributed.ranks import leave
from asrkd.files import check_file
from asrkd.report.alignment import write_alignment_report
from asrkd.report.html import check_report
from asrkd.report.tables import text_table
from asrkd.store import Store
from asrkd.training.config import TrainConfig
from asrkd.training.dry_run import DryRun
from asrkd.training.dry_run import dry_run as measure
from asrkd.training.ensemble_weights import weigh as choose
from asrkd.training.trainer import Trainer


@click.command("train")
@click.argument("config_file", metavar="CONFIG", type=click.Path(dir_okay=False))
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Make a few updates and say what the whole would take; the run folder stays as it is.",
)
def train_command(config_file: str, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Train a teacher or student by CONFIG; a run that was stopped resumes where it stopped.

    Any key can be overridden: asrkd train student.yaml seed=2 optimizer.learning_rate=0.001

    On several processes or GPUs: torchrun --nproc-per-node 4 -m asrkd train student.yaml batch.streams=4
    """
    given = config.load(TrainConfig, config_file, overrides)
    try:
        if dry_run:
            _show(measure(given))
        elif said := _trained(given):
            click.echo(said)
    finally:
        leave()


def _trained(given: TrainConfig) -> str | None:
    """Train; what to say of it, on the first process."""
    trainer = Trainer(given)
    processes = trainer.ranks.world_size
    with ProgressBar() as progress:
        trainer.train(
            lambda step, total, losses: progress.show(
                "train",
                step,
                total,
                {name: value for name, value in losses.items() if name != "rtfx"},
                seconds=trainer.audio_seconds * processes,
            )
        )
    if not trainer.ranks.first:
        return None
    for warning in trainer.warnings:
        click.echo(f"warning: {warning}", err=True)
    early = f" (of {trainer.total_steps}: the dev loss no longer fell)" if trainer.stopped else ""
    return f"trained {trainer.step} updates{early}; result in {trainer.run / 'final.pt'}"


def _show(found: DryRun) -> None:
    rows = [
        ["parameters", f"{found.parameters:,} ({4 * found.parameters / 1e6:.1f} MB in float32)"],
        ["updates", f"{found.updates:,}"],
        ["an update", f"{found.seconds_per_update:.2f} s, RTFx {found.rtfx:.0f}"],
        ["evaluations", f"{found.evaluations}, {found.seconds_per_evaluation:.1f} s each"],
        ["memory", f"{found.memory_mb:,.0f} MB at most, so far"],
        ["whole training", f"{found.hours:.2f} h"],
    ]
    click.echo(text_table(["what", "how much"], rows))


@click.command("align", cls=options.ModelCommand)
@click.argument("store")
@click.argument("out")
@options.LEXICON
@click.option("--states-per-phone", default=InventoryConfig.states_per_phone, help="HMM states of a phone.")
@click.option(
    "--model",
    metavar="SPEC",
    help="Align with this model; without one, a flat start for hmm from the transcripts alone.",
)
@options.MODEL_DEVICE
@click.option(
    "--aligner",
    type=click.Choice(ALIGNERS),
    default=options.default_of(align_store, "aligner"),
    help="Who finds the best path.",
)
@click.option(
    "--soft", metavar="CODEC", default="", help="Also store soft alignments as targets, with this codec (needs k2)."
)
@click.option(
    "--leave-early",
    is_flag=True,
    help="Let a phone of an hmm model end after any of its states, so that one frame is enough for it, as in a flat start.",
)
@click.option(
    "--report", type=click.Path(dir_okay=False), help="Write a report with pictures of some utterances (.html)."
)
@click.option(
    "--max-unaligned",
    default=options.default_of(align_store, "max_unaligned"),
    help="Share of utterances that cannot be aligned (a transcript too long for its audio, a word outside the lexicon) at which nothing is written.",
)
@click.option(
    "--oddity",
    default=ODDITY,
    help="Leave out utterances that fit their transcripts worse than the median by more than this many deviations (flat start only).",
)
@click.option("--save", type=click.Path(dir_okay=False), help="Save the HMM-GMM of the flat start (.npz).")
@click.option(
    "--from",
    "saved",
    type=click.Path(dir_okay=False),
    help="Align with a saved HMM-GMM: a dev set with that of the labeled set.",
)
def align_command(
    store: str,
    out: str,
    lexicon: str | None,
    states_per_phone: int,
    model: str | None,
    device: str,
    aligner: str,
    soft: str,
    leave_early: bool,
    report: str | None,
    max_unaligned: float,
    oddity: float,
    save: str | None,
    saved: str | None,
) -> None:
    """Copy STORE to OUT with hard labels (the alignment column), and soft ones if wanted.

    Utterances that cannot be aligned are left out and named; quarantine/ in OUT has all the reasons.
    """
    if report:
        check_report()
        check_file(report)
    progress, opened = ProgressBar(), Store.open(store)
    found = align_store(
        opened,
        out,
        lexicon,
        states_per_phone=states_per_phone,
        model=model,
        device=device,
        aligner=aligner,
        soft=soft,
        leave_early=leave_early,
        max_unaligned=max_unaligned,
        oddity=oddity,
        save=save,
        saved=saved,
        progress=lambda what, done, total, seconds: progress.show(what, done, total, seconds=seconds),
    )
    progress.close()
    if report and found.count:
        write_alignment_report(report, found, opened)
    click.echo(text_table(["alignment", ""], [list(row) for row in found.summary.rows()]))
    for warning in found.summary.warnings():
        click.echo(f"warning: {warning}", err=True)
    for why in list(found.left_out.reasons.values())[:10]:
        click.echo(f"left out: {why}", err=True)
    more = f"; {found.left_out.count} left out (quarantine/ in {out} says why)" if found.left_out.count else ""
    click.echo(f"aligned {found.count} utterances in {out}{more}")


@click.command("weigh")
@click.argument("ensemble", type=click.Path(dir_okay=False))
@click.argument("store")
@click.argument("out", type=click.Path(dir_okay=False))
@options.MODEL_DEVICE
@click.option("--max-frames", default=options.default_of(choose, "max_frames"), help="Frames to look at.")
def weigh_command(ensemble: str, store: str, out: str, device: str, max_frames: int) -> None:
    """Choose the weights of the teachers of ENSEMBLE (the file of ensemble:FILE) on the aligned STORE, and write them to OUT."""
    check_file(out)
    found = choose(ensemble, Store.open(store), out, device=device, max_frames=max_frames)
    rows = [
        [str(number), f"{weight:.3f}", f"{alone:.4f}"]
        for number, (weight, alone) in enumerate(zip(found.weights, found.alone, strict=True), 1)
    ]
    click.echo(text_table(["teacher", "weight", "alone, nats a frame"], rows))
    click.echo(
        f"together {found.after:.4f} nats a frame, {found.before:.4f} with the weights before, over {found.frames} frames; {out}"
    )
