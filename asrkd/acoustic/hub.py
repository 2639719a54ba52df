"""Models of the Hugging Face hub: the folder of a name, without waiting for a network that is not there, and never with code of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import parse_qsl

from asrkd.acoustic.model import one_line
from asrkd.errors import ModelError
from asrkd.extras import import_optional

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
    """The folder of a CTC model of transformers, as `model_folder`.

    Args:
        adapter: language of an adapter, whose file is fetched too.
    """

    def wanted(files: Sequence[str]) -> list[str]:
        weights = [one for one in files if any(fnmatch(one, form) for form in _WEIGHTS) and not fnmatch(one, ADAPTERS)]
        if any(file.endswith(".safetensors") for file in weights):
            weights = [file for file in weights if file.endswith(".safetensors")]
        return [*_SETTINGS, *weights, *(f"adapter.{adapter}.{ending}" for ending in ("safetensors", "bin") if adapter)]

    return model_folder(f"model {spec!r}", name, wanted, "a CTC model of transformers")


def model_folder(what: str, name: str, wanted: Callable[[Sequence[str]], Sequence[str]], kind: str) -> Path:
    """The folder of a model: `name` itself, or the copy that the hub's client keeps, fetched where it is not complete.

    Args:
        what: the model, for an error.
        wanted: of the files that the hub has, patterns of those to fetch.
        kind: what it is to be loaded as, for an error.

    Raises:
        ModelError: it is neither a folder, nor in the cache, nor on a hub that answers.
        DependencyError: huggingface_hub is not installed.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or name.startswith((".", "/", "~", os.sep)) or name.count("/") > 1:
        raise ModelError(
            f"{what}: {name!r} cannot be loaded as {kind}: it is {'a file' if folder.exists() else 'not there'}; give the folder that its tool wrote (for "
            "transformers save_pretrained: config.json, weights, tokenizer and feature extractor), or a name on the hub"
        )
    hub = import_optional("huggingface_hub", f"{what} needs huggingface_hub")
    try:
        # One request that is not repeated, before those that are.
        listed = hub.HfApi().model_info(name, timeout=_SECONDS)
    except Exception as unanswered:  # of the network, of the hub, of the name
        try:
            return Path(hub.snapshot_download(name, local_files_only=True))
        except Exception:
            raise ModelError(
                f"{what}: {name!r} cannot be loaded as {kind}: it is not a folder here, not in the hub's cache, and the hub cannot give it "
                f"({_short(unanswered)}); correct the name, or give a folder that was downloaded where there is a network"
            ) from None
    patterns = wanted([file.rfilename for file in listed.siblings or []])
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(patterns), revision=listed.sha))
    except Exception as error:
        raise ModelError(
            f"{what}: {name!r} cannot be downloaded ({_short(error)}); run it again, or give a folder that was downloaded elsewhere"
        ) from None


def _short(error: Exception) -> str:
    return one_line(error)[:200]
