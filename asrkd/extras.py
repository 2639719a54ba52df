"""The optional parts of asrkd: what each is for, and the packages that `pip install 'asrkd[NAME]'` brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from asrkd.errors import DependencyError


@dataclass(frozen=True)
class Extra:
    """An optional part.

    Attributes:
        purpose: what needs it.
        packages: the modules that are imported, by the names of their packages.
    """

    purpose: str
    packages: Mapping[str, str]


EXTRAS = {
    "train": Extra("asrkd train", {"tensorboard": "tensorboard"}),
    "report": Extra("reports with pictures", {"matplotlib": "matplotlib", "jinja2": "jinja2"}),
    "demo": Extra("asrkd demo", {"espeakng-loader": "espeakng_loader"}),
    "teachers": Extra(
        "teachers of transformers and ONNX graphs",
        {"transformers": "transformers", "onnxruntime": "onnxruntime", "kaldi-native-fbank": "kaldi_native_fbank"},
    ),
    "whisper": Extra("text teachers of faster-whisper", {"faster-whisper": "faster_whisper"}),
    "segment": Extra("asrkd segment with Silero VAD", {"silero-vad": "silero_vad", "onnxruntime": "onnxruntime"}),
    "bpe": Extra("pieces of words as tokens", {"sentencepiece": "sentencepiece", "tokenizers": "tokenizers"}),
    "beam": Extra("prefix beam search with a language model", {"flashlight-text": "flashlight"}),
    "export": Extra(
        "asrkd export",
        {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime", "sherpa-onnx": "sherpa_onnx"},
    ),
    "executorch": Extra("asrkd export executorch", {"executorch": "executorch"}),
    "live": Extra("the microphone of asrkd live", {"sounddevice": "sounddevice"}),
    "hub": Extra("hf:// corpora, asrkd store push and pull", {"huggingface-hub": "huggingface_hub"}),
    "cloud": Extra("array tasks on an object store", {"obstore": "obstore"}),
    "ray": Extra("asrkd label run on a Ray cluster", {"ray": "ray"}),
    "k2": Extra("sequence training, pruned lattices, the decoder k2", {"k2": "k2"}),
}


def extra_of(module: str) -> str:
    """The first extra that brings a module, by its name; empty for what asrkd always needs."""
    root = module.partition(".")[0]
    return next((name for name, extra in EXTRAS.items() if root in extra.packages.values()), "")


def import_optional(module: str, need: str = "", extra: str = "", install: str = "") -> Any:
    """A module of an extra.

    Args:
        need: what needs it, the beginning of an error's message; by default the purpose of its extra.
        extra: the extra that the user should install, where several bring the module; by default the first.
        install: the package to install in its place, of a module that no extra brings.

    Raises:
        DependencyError: it is not installed, or it is and cannot be imported.
    """
    try:
        return import_module(module)
    except Exception as error:  # an installed package that is broken raises any kind
        extra = extra or extra_of(module)
        raise _not_importable(module, need or _need(extra, module), install or f"asrkd[{extra}]", error) from None


def _need(extra: str, module: str) -> str:
    purpose = EXTRAS[extra].purpose
    return f"{purpose} need{'' if purpose.startswith('reports') else 's'} {module}"


def _not_importable(module: str, need: str, install: str, error: Exception) -> DependencyError:
    package = module.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and (error.name or package).partition(".")[0] == package:
        return DependencyError(f"{need}: pip install '{install}'")
    why = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return DependencyError(
        f"{need}: {package} is installed but cannot be imported ({why}); install it again: pip install --force-reinstall '{install}'"
    )


def broken_library(error: Exception) -> DependencyError:
    """The error of a library that cannot be loaded: of an extra that is not installed, or one that asrkd cannot work without.

    Args:
        error: what the import raised.
    """
    if isinstance(error, ModuleNotFoundError) and (extra := extra_of(error.name or "")):
        return _not_importable(error.name or "", _need(extra, error.name or ""), f"asrkd[{extra}]", error)
    reason = " ".join(str(error).split())
    return DependencyError(
        f"a library that asrkd needs cannot be loaded ({reason}); install asrkd again: pip install --force-reinstall asrkd"
    )
