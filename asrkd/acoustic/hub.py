"""CTC models of the hub, by name and settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl

from asrkd.errors import ModelError
from asrkd.hub import model_folder, transformers_files


def split_name(spec: str, argument: str, keys: Sequence[str]) -> tuple[str, dict[str, str]]:
    """`NAME?key=value&...` -> name and settings; a folder whose name has a `?` is a name.

    Raises:
        ModelError: a setting that is not one of `keys`, or has no value.
    """
    name, mark, query = argument.rpartition("?")
    if not mark or Path(argument).exists():
        return argument, {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        pairs = [(query, "")]
    for key, value in pairs:
        if key not in keys or not value:
            raise ModelError(
                f"model {spec!r}: the setting {key!r}{f' with the value {value!r}' if value else ' without a value'} is not known; give {', '.join(keys)}, as in "
                f"{name}?{keys[0]}=..."
            )
    return name, dict(pairs)


def ctc_folder(spec: str, name: str, adapter: str = "") -> Path:
    """The folder of a CTC model of transformers, as `model_folder`.

    Args:
        adapter: language of an adapter, whose file is fetched too.
    """

    def wanted(files: Sequence[str]) -> list[str]:
        return [
            *transformers_files(files),
            *(f"adapter.{adapter}.{ending}" for ending in ("safetensors", "bin") if adapter),
        ]

    return model_folder(f"model {spec!r}", name, wanted, "a CTC model of transformers")
