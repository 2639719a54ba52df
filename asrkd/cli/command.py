"""Runs a command of the command line: whatever ends it is one line and an exit code."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import click

from asrkd.errors import AsrkdError
from asrkd.extras import broken_library, extra_of
from asrkd.files import refused
from asrkd.labeling.stop import Terminated, terminated_by_signal
from asrkd.processes import check_guard

AGAIN = "run the same command again to resume"


def run_command(command: click.Command) -> None:
    """Run a command, and exit unless it succeeds.

    What the user can fix is one line and exit code 1: an `AsrkdError`, and what the system refuses (an `OSError` wherever it comes from, or memory);
    wrong usage is 2, Ctrl-C 130, SIGTERM 143, and a reader of the output that went away 141, without a word.
    """
    _in_utf8()
    check_guard()
    _write_any_text()
    try:
        with terminated_by_signal(unless=_in_a_group()):
            _invoke(command)
            _flush()  # a full disk is told here, rather than at the interpreter's end
    except click.exceptions.Exit as end:
        if end.exit_code:
            sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _end(f"stopped; {AGAIN}", 128 + signal.SIGINT)
    except Terminated:
        _end(f"stopped by SIGTERM; {AGAIN}", 128 + signal.SIGTERM)
    except OSError as error:
        if not _of_output(error):
            _failed(refused(error))
        if isinstance(error, BrokenPipeError):
            _end("", 128 + signal.SIGPIPE)
        _failed(refused(error, "standard output"))
    except MemoryError as error:
        reason = " ".join(str(error).split())
        _failed(
            AsrkdError(
                f"there is not enough memory{f' ({reason})' if reason else ''}; give the command more, or less to do at a time"
            )
        )
    except AsrkdError as error:
        _failed(error)
    except ModuleNotFoundError as error:
        if not extra_of(error.name or ""):
            raise
        _failed(broken_library(error))


def _invoke(command: click.Command) -> None:
    # Not `command.main`, which ends silently at any broken pipe, also of a process of our own that died.
    program = Path(sys.argv[0]).name
    if any(name.endswith("_COMPLETE") for name in os.environ):  # a shell asks for completions
        command.main(standalone_mode=False)
        return
    with command.make_context("python -m asrkd" if program == "__main__.py" else program, sys.argv[1:]) as context:
        command.invoke(context)


def _in_utf8() -> None:
    """Begin again in Python's UTF-8 mode where the locale has another encoding, in which names of files would be other names."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _write_any_text() -> None:
    """Let the output take any text: what its encoding does not have is shown by its number, and stops nothing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _flush() -> None:
    sys.stdout.flush()


def _of_output(error: OSError) -> bool:
    """Whether it was raised while something was shown, rather than by a file or a pipe to another process."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code in (_flush.__code__, click.echo.__code__) for frame, _ in frames)


def _in_a_group() -> bool:
    """Whether this is one of several processes of a training, which torchrun ends by signals: one that waits for another in C cannot raise."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def _failed(error: Exception) -> NoReturn:
    if "--debug" in sys.argv:
        traceback.print_exc()
    # The secret of a URI is not for logs.
    said = re.sub(r"(\w://[^\s/:@]*:)[^\s/@]+@", r"\1***@", " ".join(str(error).split()))
    _end(f"asrkd: {said}", 1)


def _end(said: str, code: int) -> NoReturn:
    """Say something on stderr, if that is possible, and exit; output that cannot be written is given up."""
    try:
        if said:
            click.echo(said, err=True)
    except OSError:
        pass
    try:
        _flush()
    except (OSError, ValueError):
        # What is left in the buffer would fail again, with a traceback, when the interpreter ends.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    sys.exit(code)
