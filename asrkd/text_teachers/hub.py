"""Models by folder, or by name on the Hugging Face hub, without waiting for a network that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from asrkd.acoustic.model import one_line
from asrkd.errors import DependencyError, ModelError

# A hub that does not answer in this time is taken for unreachable.
_SECONDS = 5.0


def model_folder(spec: str, name: str, patterns: Sequence[str]) -> Path:
    """The folder of a model: `name` itself, or where the hub's client keeps what it downloaded of it.

    Args:
        patterns: of the files to download.

    Raises:
        ModelError: it is neither a folder, nor in the cache, nor on a hub that answers.
        DependencyError: huggingface_hub is not installed.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        import huggingface_hub
    except ImportError:
        raise DependencyError(f"text teacher {spec!r} needs huggingface_hub: pip install 'asrkd[teachers]'") from None
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"text teacher {spec!r}: there is no folder {name!r}")
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(patterns), local_files_only=True))
    except Exception:  # it is not in the cache
        pass
    try:
        huggingface_hub.HfApi().model_info(name, timeout=_SECONDS)
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(patterns)))
    except Exception as error:  # whatever the client raises is the user's to see in one line
        raise ModelError(
            f"text teacher {spec!r}: {name!r} is no folder here, not in the hub's cache, and cannot be downloaded ({one_line(error)[:200]}); "
            "give a folder, or download it where there is a network"
        ) from None
