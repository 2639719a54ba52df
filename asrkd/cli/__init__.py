"""The command line: one file a group, no logic."""

from __future__ import annotations

import click

import asrkd
from asrkd.cli.command import run_command
from asrkd.cli.decode import decode_command, score_command
from asrkd.cli.demo import demo_command
from asrkd.cli.estimate import estimate_command
from asrkd.cli.export import export
from asrkd.cli.label import label
from asrkd.cli.live import live_command
from asrkd.cli.options import check_number_options
from asrkd.cli.segment import segment_command
from asrkd.cli.store import store
from asrkd.cli.tokens import tokens_command
from asrkd.cli.train import align_command, train_command, weigh_command
from asrkd.cli.transcribe import transcribe_command


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.version_option(asrkd.__version__)
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Teacher-student training for speech recognition from stored soft targets.

    \b
    The stages, in order:
      asrkd segment CUTS OUT             long recordings: segments with speech
      asrkd label plan CUTS STORE        a store of transcripts (labeled set), or of a teacher's soft targets
      asrkd label run STORE              fill it
      asrkd tokens CUTS OUT              characters or pieces of words, in place of a lexicon
      asrkd align STORE OUT              hard labels for the hmm topology, from nothing but transcripts
      asrkd train CONFIG                 teacher or student
      asrkd decode SPEC CUTS OUT         text and word error rate
      asrkd transcribe SPEC AUDIO...     text of audio without transcripts
      asrkd live SPEC FILE|-|microphone  words while they are spoken
      asrkd export sherpa SPEC OUT       a student for sherpa-onnx
    """
    context.obj = {"debug": debug}


for command in (
    demo_command,
    segment_command,
    estimate_command,
    label,
    store,
    tokens_command,
    align_command,
    train_command,
    weigh_command,
    decode_command,
    transcribe_command,
    live_command,
    score_command,
    export,
):
    cli.add_command(command)
check_number_options(cli)

__all__ = ["cli", "run_command"]
