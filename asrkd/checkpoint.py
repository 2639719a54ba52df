"""Checkpoints: written whole or not at all, read without unpickling code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from asrkd import files
from asrkd.errors import AsrkdError, ConfigError

FORMAT = "asrkd/checkpoint-v1"


def save(path: str | Path, content: dict[str, Any]) -> None:
    """Write a checkpoint under a temporary name, flush it to disk, then rename it.

    Raises:
        AsrkdError: the file cannot be written (for example a full disk); an earlier checkpoint of that name stays.
    """
    try:
        files.write(path, lambda stream: torch.save({"format": FORMAT, **content}, stream))
    except (AsrkdError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
        why = str(error) if isinstance(error, AsrkdError) else f"{str(path)!r} cannot be written: {error}"
        raise AsrkdError(
            f"checkpoint {why}. The one before it is still whole; start again when this is fixed, and training resumes from there"
        ) from None


def read(path: str | Path, *, error: type[AsrkdError] = ConfigError) -> dict[str, Any]:
    """Read a checkpoint that `save` wrote.

    Raises:
        AsrkdError: of the kind `error`: the file is missing, damaged, or not a checkpoint of asrkd.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise error(f"checkpoint {str(path)!r} does not exist; train the run to its end, or correct the path") from None
    except Exception as failure:
        text = " ".join(str(failure).split()) or type(failure).__name__
        raise error(f"checkpoint {str(path)!r} cannot be read ({text}); it is damaged or of another tool") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise error(f"checkpoint {str(path)!r} is not of the format {FORMAT!r}; give one that asrkd train wrote")
    return content
