"""Which synthesizer speaks."""

from __future__ import annotations

import os

from asrkd.errors import ConfigError
from asrkd_recipes.demo.espeak import Espeak
from asrkd_recipes.demo.kokoro import VARIABLE, Kokoro, kokoro_folder
from asrkd_recipes.demo.speakers import Synthesizer


def make_synthesizer(spec: str) -> Synthesizer:
    """The synthesizer of `asrkd demo --voices`: `espeak`, `kokoro:FOLDER`, or `kokoro` with the folder in the environment.

    Raises:
        ConfigError: there is no such synthesizer, or the folder is none of Kokoro's.
        DependencyError: its library is missing.
    """
    kind, _, argument = spec.partition(":")
    if kind == "kokoro":
        return Kokoro(kokoro_folder(argument))
    if spec != "espeak":
        raise ConfigError(f"--voices is {spec!r}, but must be espeak, kokoro:FOLDER or kokoro")
    return Espeak()


def usual_synthesizer() -> Synthesizer:
    """Kokoro where the environment names its folder (`ASRKD_KOKORO`), eSpeak NG elsewhere.

    Raises:
        ConfigError: the folder is none of Kokoro's.
        DependencyError: sherpa-onnx is missing.
    """
    return make_synthesizer("kokoro" if os.environ.get(VARIABLE) else "espeak")
