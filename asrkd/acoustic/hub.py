"""Models of the Hugging Face hub: the folder of a name, without waiting for a network that is not there, and never with code of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import parse_qsl

from asrkd.acoustic.model import one_line
from asrkd.errors import ModelError

# A hub that does not answer within this time is taken for unreachable.
_SECONDS = 5
_SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")
_WEIGHTS = ("*.safetensors", "*.bin")
ADAPTERS = "adapter.*"


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
    """The folder of a model: `name` itself, or the copy that the hub's client keeps, fetched where it is not complete.

    Args:
        adapter: language of an adapter, whose file is fetched too.

    Raises:
        ModelError: it is neither a folder, nor in the cache, nor on a hub that answers.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or name.startswith((".", "/", "~", os.sep)) or name.count("/") > 1:
        raise ModelError(
            f"model {spec!r}: {name!r} cannot be loaded as a CTC model of transformers: it is {'a file' if folder.exists() else 'not there'}; give the folder that "
            "save_pretrained wrote (config.json, weights, tokenizer and feature extractor), or a name on the hub"
        )
    import huggingface_hub

    try:
        # One request that is not repeated, before those that are.
        listed = huggingface_hub.HfApi().model_info(name, timeout=_SECONDS)
    except Exception as error:  # of the network, of the hub, of the name
        return _cached(spec, name, error)
    files = [file.rfilename for file in listed.siblings or []]
    weights = [file for file in files if any(fnmatch(file, form) for form in _WEIGHTS) and not fnmatch(file, ADAPTERS)]
    if any(file.endswith(".safetensors") for file in weights):
        weights = [file for file in weights if file.endswith(".safetensors")]
    wanted = [*weights, *(f"adapter.{adapter}.{ending}" for ending in ("safetensors", "bin") if adapter)]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=[*_SETTINGS, *wanted], revision=listed.sha))
    except Exception as error:
        raise ModelError(
            f"model {spec!r}: {name!r} cannot be downloaded ({_short(error)}); run it again, or give a folder that was downloaded elsewhere"
        ) from None


def _cached(spec: str, name: str, error: Exception) -> Path:
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(name, local_files_only=True))
    except Exception:
        raise ModelError(
            f"model {spec!r}: {name!r} cannot be loaded as a CTC model of transformers: it is not a folder here, not in the hub's cache, and the hub cannot "
            f"give it ({_short(error)}); correct the name, or give a folder that was downloaded where there is a network"
        ) from None


def _short(error: Exception) -> str:
    return one_line(error)[:200]
