"""The command line: one file a group, no logic."""

from __future__ import annotations

import click

import asrkd
from asrkd.cli.command import run_command
from asrkd.cli.lazy import LazyCommand

_EPILOG = """\b
Exit codes:
  0    done
  1    what the user can fix, in one line; problems found by store verify
  2    wrong usage
  130  Ctrl-C
  141  the reader of the output went away
  143  SIGTERM

\b
Completion, in ~/.bashrc (for zsh: zsh_source, for fish: fish_source):
  eval "$(_ASRKD_COMPLETE=bash_source asrkd)"
"""


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(asrkd.__version__)
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Teacher-student training for speech recognition from stored soft targets.

    \b
    The stages, in order:
      asrkd corpus look CUTS OUT         what a corpus holds, as a page
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

    asrkd doctor says which optional parts are installed.
    """
    context.obj = {"debug": debug}


for name, function, short_help in (
    ("align", "train.align_command", "Hard labels for STORE, from its transcripts."),
    ("corpus", "corpus.corpus", "Look at a corpus, and measure it."),
    ("decode", "decode.decode_command", "Decode CUTS with a model, and score."),
    ("demo", "demo.demo_command", "The whole study on a small synthetic corpus."),
    ("doctor", "doctor.doctor_command", "What is installed here, and what each part is for."),
    ("estimate", "estimate.estimate_command", "What HOURS of audio like CUTS will cost."),
    ("export", "export.export", "Students for other runtimes."),
    ("label", "label.label", "Store a teacher's soft targets of audio."),
    ("live", "live.live_command", "Text of speech while it is spoken."),
    ("report", "report.report_command", "A page about a store, a training or scores."),
    ("score", "decode.score_command", "Word error rate of HYP against REF."),
    ("segment", "segment.segment_command", "Segments with speech of long recordings."),
    ("store", "store.store", "Look into a store of soft targets, check it."),
    ("tokens", "tokens.tokens_command", "Tokens of the transcripts of CUTS."),
    ("train", "train.train_command", "Train a teacher or student by CONFIG."),
    ("transcribe", "transcribe.transcribe_command", "Text of AUDIO without transcripts."),
    ("weigh", "train.weigh_command", "Choose the weights of an ensemble's teachers."),
):
    module, _, attribute = function.rpartition(".")
    cli.add_command(LazyCommand(name, f"{__name__}.{module}", attribute, short_help))

__all__ = ["cli", "run_command"]
