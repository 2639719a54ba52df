"""The command line: one file a group, no logic."""

from __future__ import annotations

import io
import os
import sys
import traceback

import click

import asrkd
from asrkd.cli.decode import decode, score
from asrkd.cli.demo import demo
from asrkd.cli.estimate import estimate
from asrkd.cli.label import label
from asrkd.cli.store import store
from asrkd.cli.train import align, train, weigh
from asrkd.errors import AsrkdError


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.version_option(asrkd.__version__)
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Teacher-student training for speech recognition from stored soft targets.

    \b
    The stages, in order:
      asrkd label plan CUTS STORE        a store of transcripts (labeled set), or of a teacher's soft targets
      asrkd label run STORE              fill it
      asrkd align STORE OUT              hard labels for the hmm topology, from nothing but transcripts
      asrkd train CONFIG                 teacher or student
      asrkd decode RUN CUTS OUT          text and word error rate
    """
    context.obj = {"debug": debug}


for command in (demo, estimate, label, store, align, train, weigh, decode, score):
    cli.add_command(command)


def main() -> None:
    """Entry point of `asrkd`."""
    run_command(cli)


def run_command(command: click.Command) -> None:
    """Run a command: an `AsrkdError` is one line and exit code 1, wrong usage is exit code 2."""
    _in_utf8()
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding does not have is shown by its number, and stops nothing.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        command.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; run the same command again to go on", err=True)
        sys.exit(130)
    except AsrkdError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        click.echo(f"asrkd: {' '.join(str(error).split())}", err=True)
        sys.exit(1)


def _in_utf8() -> None:
    """Begin again in Python's UTF-8 mode where the locale has another encoding, in which names of files would be other names."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
