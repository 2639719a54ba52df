"""`asrkd train` and `asrkd align`."""

from __future__ import annotations

import click

from asrkd import config
from asrkd.cli.progress import Progress
from asrkd.training.align_store import ALIGNERS, align_store
from asrkd.training.config import TrainConfig
from asrkd.training.trainer import Trainer


@click.command()
@click.argument("config_file", metavar="CONFIG", type=click.Path(dir_okay=False))
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
def train(config_file: str, overrides: tuple[str, ...]) -> None:
    """Train a teacher or student by CONFIG; a run that was stopped goes on where it was.

    Any key can be overridden: asrkd train student.yaml seed=2 optimizer.learning_rate=0.001
    """
    trainer = Trainer(config.load(TrainConfig, config_file, overrides))
    progress = Progress()
    try:
        trainer.train(lambda step, total, losses: progress.show("train", step, total, losses))
    finally:
        progress.close()
    click.echo(f"trained {trainer.total_steps} updates; result in {trainer.run / 'final.pt'}")


@click.command()
@click.argument("store")
@click.argument("out")
@click.option("--lexicon", required=True, type=click.Path(dir_okay=False), help="Pronunciations of every word.")
@click.option("--states-per-phone", default=2, help="HMM states of a phone.")
@click.option(
    "--model",
    metavar="SPEC",
    help="Align with this model; without one, a flat start for hmm from the transcripts alone.",
)
@click.option("--aligner", type=click.Choice(ALIGNERS), default="viterbi", help="Who finds the best path.")
@click.option(
    "--soft", metavar="CODEC", default="", help="Also store soft alignments as targets, with this codec (needs k2)."
)
def align(
    store: str, out: str, lexicon: str, states_per_phone: int, model: str | None, aligner: str, soft: str
) -> None:
    """Copy STORE to OUT with hard labels (the alignment column), and soft ones if wanted."""
    progress = Progress()
    count = align_store(
        store,
        out,
        lexicon,
        states_per_phone=states_per_phone,
        model=model,
        aligner=aligner,
        soft=soft,
        progress=lambda done, total: progress.show("align", done, total),
    )
    progress.close()
    click.echo(f"aligned {count} utterances in {out}")
