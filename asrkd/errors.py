"""The errors that asrkd raises for what a user can mend.

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


def not_importable(package: str, need: str, install: str, error: Exception) -> DependencyError:
    """The error of an optional package that cannot be imported: it is not installed, or it is and does not work.

    Args:
        package: its name.
        need: what needs it, the beginning of the message.
        install: what pip installs it by.
        error: what the import raised.
    """
    if isinstance(error, ModuleNotFoundError) and (error.name or package).partition(".")[0] == package:
        return DependencyError(f"{need}: pip install '{install}'")
    why = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return DependencyError(
        f"{need}: {package} is installed but cannot be imported ({why}); install it again: pip install --force-reinstall '{install}'"
    )


def broken_library(error: Exception) -> DependencyError:
    """The error of a library that asrkd cannot work without, and that cannot be loaded; `error`: what the import raised."""
    reason = " ".join(str(error).split())
    return DependencyError(
        f"a library that asrkd needs cannot be loaded ({reason}); install asrkd again: pip install --force-reinstall asrkd"
    )
