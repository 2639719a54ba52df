"""Imports what is optional."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from asrkd.errors import DependencyError


def import_k2() -> Any:
    """The k2 module.

    Raises:
        DependencyError: k2 is not installed, or cannot be loaded (a wheel for another torch).
    """
    try:
        import k2
    except ModuleNotFoundError as error:
        if error.name != "k2":
            raise
        raise DependencyError(
            "this needs k2, which is not installed; install the wheel that was built for your torch from k2's index: "
            "pip install k2 -f https://k2-fsa.github.io/k2/cpu.html (cuda.html for GPUs)"
        ) from None
    except (ImportError, OSError) as error:
        raise DependencyError(
            f"k2 is installed but cannot be loaded ({error}); it was most likely built for another torch. Install the wheel that "
            "was built for yours: https://k2-fsa.github.io/k2/cpu.html (cuda.html for GPUs)"
        ) from None
    return k2


def check_kaldilm() -> None:
    """Raise `DependencyError` unless kaldilm is installed."""
    if find_spec("kaldilm") is None:
        raise DependencyError("reading an ARPA file needs kaldilm, which is not installed: pip install kaldilm")
