"""Text teachers by spec string, `text:KIND:NAME` or `text:FILE.yaml`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asrkd import config, fingerprint
from asrkd.acoustic.model import check_device
from asrkd.errors import ConfigError, ModelError
from asrkd.text_teachers.factory import load_python
from asrkd.text_teachers.faster_whisper import load_faster_whisper
from asrkd.text_teachers.seq2seq import load_transformers
from asrkd.text_teachers.settings import TextSettings
from asrkd.text_teachers.teacher import TextTeacher

PREFIX = "text:"


@dataclasses.dataclass(frozen=True)
class TextKind:
    """A kind of text teacher: how its specs look, a sentence about it, and what loads it (spec, name, device, settings)."""

    form: str
    help: str
    load: Callable[[str, str, str, TextSettings], TextTeacher]


TEXT_KINDS: dict[str, TextKind] = {
    "transformers": TextKind(
        "text:transformers:PATH_OR_NAME",
        "A speech-to-text model of transformers (Whisper, Moonshine, ...): a folder that save_pretrained wrote, or a name on the hub.",
        load_transformers,
    ),
    "faster-whisper": TextKind(
        "text:faster-whisper:PATH_OR_NAME",
        "A Whisper model for CTranslate2, run by faster-whisper.",
        load_faster_whisper,
    ),
    "python": TextKind(
        "text:python:package.module:factory",
        "A function of your own that returns an asrkd.text_teachers.TextTeacher.",
        load_python,
    ),
}
FILE_FORM, FILE_HELP = "text:FILE.yaml", "One of these with settings (docs/teachers.md): language, beam, n best, flags."


def is_text_spec(spec: str) -> bool:
    """Whether a spec names a text teacher."""
    return spec.startswith(PREFIX)


def load_text_teacher(spec: str, device: str = "cpu", **changes: Any) -> TextTeacher:
    """Load the text teacher that a spec names.

    Args:
        spec: `text:KIND:NAME`, or `text:FILE.yaml` with settings.
        device: where it runs, `cpu` or `cuda:0`.
        changes: settings (`TextSettings`) that replace those of the spec.

    Raises:
        ConfigError: the device cannot be used.
        ModelError: the spec is not one of these, or what it names cannot be used.
        DependencyError: its package is not installed.
    """
    check_device(device)
    settings = dataclasses.replace(_settings(spec), **changes)
    kind, _, name = settings.model.partition(":")
    if kind not in TEXT_KINDS or not name:
        raise ModelError(
            f"text teacher {spec!r} is of no known kind; give one of {', '.join(one.form for one in TEXT_KINDS.values())} or {FILE_FORM}"
        )
    loaded = TEXT_KINDS[kind].load(spec, name, device, settings)
    # Where the model is, does not change its texts: the fingerprint is over what is there.
    said = dataclasses.asdict(settings) | {"model": kind}
    # Later than the first stores, whose teachers stay the same.
    if not said["suppress_numerals"]:
        said.pop("suppress_numerals")
    if not said.pop("sentences"):
        grammar = {}
    else:
        settings.written("read it")  # raises what is wrong with it before anything is labeled
        grammar = {"sentences": fingerprint.of_file(settings.sentences)}
    return dataclasses.replace(
        loaded,
        spec=spec,
        settings=settings,
        max_seconds=min(loaded.max_seconds, settings.max_seconds),
        fingerprint=fingerprint.of_json([loaded.fingerprint, said | grammar]),
    )


def settings_file(spec: str) -> Path | None:
    """The file of settings that a spec `text:FILE.yaml` names, None of other specs."""
    named = spec.removeprefix(PREFIX)
    return Path(named) if named.endswith((".yaml", ".yml")) and named.partition(":")[0] not in TEXT_KINDS else None


def _settings(spec: str) -> TextSettings:
    file = settings_file(spec)
    if file is None:
        return TextSettings(model=spec.removeprefix(PREFIX) or "?")
    try:
        return config.load(TextSettings, file)
    except ConfigError as error:
        raise ModelError(f"text teacher {spec!r}: {str(file)!r}: {error}") from None
