"""The errors that asrkd raises for what a user can fix.

A message says what is wrong (quoting the value), why it matters, and what to do. The command line
prints it in one line and exits 1; anything that is not an `AsrkdError` is a defect of asrkd.
"""

from __future__ import annotations


class AsrkdError(Exception):
    """Base of every error that asrkd raises on purpose."""


class ConfigError(AsrkdError):
    """A configuration, spec string or option that cannot be used."""


class CorpusError(AsrkdError):
    """Audio, cuts, transcripts or a lexicon that cannot be used."""


class ModelError(AsrkdError):
    """An acoustic model (teacher or student) that cannot be loaded or does not keep its contract."""


class StoreError(AsrkdError):
    """A store that cannot be read or written."""


class MismatchError(AsrkdError):
    """Two things that must agree (teacher and store, frames and targets) do not."""


class DependencyError(AsrkdError):
    """An optional package is needed and not installed, or installed and broken."""


def one_line(error: BaseException) -> str:
    """An error of another library in one line: what it says, or its kind where it says nothing."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
