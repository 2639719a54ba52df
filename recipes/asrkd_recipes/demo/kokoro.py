"""Speech from text by Kokoro: a neural voice in a folder of sherpa-onnx, which runs it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.errors import ConfigError
from asrkd.extras import import_optional

VARIABLE = "ASRKD_KOKORO"
# American and British English begin so: af_bella, am_adam, bf_emma, bm_george.
_ACCENTS = {"American": "a", "British": "b"}
_LEXICON = "lexicon-us-en.txt"
_FILES = ("tokens.txt", "voices.bin", _LEXICON)
_METADATA = ("sample_rate", "n_speakers", "has_espeak", "speaker_names", "style_dim")
_USUAL_RATE = 175.0  # words a minute at speed 1


class Kokoro:
    """The English voices of a Kokoro model, a `Synthesizer` that has no pitch to change.

    Args:
        folder: as sherpa-onnx publishes it: `model.onnx`, `voices.bin`, `tokens.txt` and `lexicon-us-en.txt`.

    Raises:
        ConfigError: a file is missing, or the model is not Kokoro, or has no English voices.
        DependencyError: sherpa-onnx is missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        # sherpa-onnx ends the process when it finds something wrong, so all that it would look at is checked here.
        model = self._model()
        metadata = self._metadata(model)
        self._ids = {name: number for number, name in enumerate(metadata["speaker_names"].split(","))}
        voices = {accent: [name for name in self._ids if name.startswith(first)] for accent, first in _ACCENTS.items()}
        self.voices: Mapping[str, Sequence[str]] = {accent: names for accent, names in voices.items() if names}
        if not self.voices:
            raise ConfigError(
                f"{str(model)!r} has the voices {metadata['speaker_names']!r}, but none of English, whose names begin with af_, am_, bf_ or bm_"
            )
        self.name = (
            f"kokoro, {model.name} of {model.stat().st_size} bytes, {sum(map(len, self.voices.values()))} voices"
        )
        try:
            lines = (self.folder / _LEXICON).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{str(self.folder / _LEXICON)!r} is not UTF-8 ({error}); download it again") from None
        self._words = {line.split()[0].lower() for line in lines if line.strip()}
        self._tts = self._load(model)

    def unknown_words(self, text: str) -> Sequence[str]:
        return [word for word in text.lower().split() if word not in self._words]

    def speak(
        self, text: str, voice: str, *, rate: int, pitch: int, pitch_range: int
    ) -> tuple[NDArray[np.float32], int]:
        # sherpa-onnx leaves a word without pronunciation out, and the transcript would say more than the audio.
        text = text.lower()
        if unknown := self.unknown_words(text):
            raise ConfigError(
                f"the word {unknown[0]!r} of {text!r} is not in {str(self.folder / _LEXICON)!r}, so Kokoro would leave it out; add its pronunciation"
            )
        audio = self._tts.generate(text, sid=self._ids[voice], speed=rate / _USUAL_RATE)
        samples = np.asarray(audio.samples, dtype=np.float32)
        if not len(samples) or not np.abs(samples).max() > 0:
            raise ConfigError(f"{str(self.folder)!r} spoke nothing for the text {text!r} with the voice {voice!r}")
        return samples, int(audio.sample_rate)

    def _model(self) -> Path:
        """The graph, of a folder that is whole."""
        graphs = [self.folder / name for name in ("model.onnx", "model.int8.onnx")]
        model = next((graph for graph in graphs if graph.is_file()), None)
        missing = [*([] if model else ["model.onnx"]), *(name for name in _FILES if not (self.folder / name).is_file())]
        if model is None or missing:
            raise ConfigError(
                f"{str(self.folder)!r} is not a Kokoro model of sherpa-onnx: {', '.join(missing)} is missing; "
                "unpack one of its tts-models, such as kokoro-multi-lang-v1_0.tar.bz2, and name its folder"
            )
        return model

    def _metadata(self, model: Path) -> dict[str, str]:
        onnxruntime = import_optional("onnxruntime", "the voices of Kokoro need it", "export")
        try:
            session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
            metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
        except Exception as error:  # of many kinds
            raise ConfigError(
                f"{str(model)!r} cannot be loaded as an ONNX graph: {' '.join(str(error).split())}"
            ) from error
        if missing := [name for name in _METADATA if not metadata.get(name)]:
            raise ConfigError(
                f"{str(model)!r} has no {', '.join(missing)} in its metadata, without which sherpa-onnx does not take it for Kokoro; "
                "take a folder of sherpa-onnx's tts-models"
            )
        names, shape = metadata["speaker_names"].split(","), metadata["style_dim"].split(",")
        try:
            expected = 4 * int(metadata["n_speakers"]) * int(np.prod([int(size) for size in shape]))
            whole = int(metadata["n_speakers"]) == len(names) and len(shape) == 3 and int(shape[1]) == 1
        except ValueError:
            expected, whole = 0, False
        found = (self.folder / "voices.bin").stat().st_size
        if not whole or found != expected:
            raise ConfigError(
                f"{str(self.folder / 'voices.bin')!r} has {found} bytes, but {model.name} says {metadata['n_speakers']} speakers ({len(names)} names) "
                f"of {metadata['style_dim']} numbers, {expected} bytes; both must be of one download"
            )
        return metadata

    def _load(self, model: Path) -> Any:
        sherpa = import_optional("sherpa_onnx", "the voices of Kokoro need sherpa-onnx")
        kokoro = sherpa.OfflineTtsKokoroModelConfig(
            model=str(model),
            voices=str(self.folder / "voices.bin"),
            tokens=str(self.folder / "tokens.txt"),
            lexicon=str(self.folder / _LEXICON),
        )
        config = sherpa.OfflineTtsConfig(
            sherpa.OfflineTtsModelConfig(kokoro=kokoro, num_threads=torch.get_num_threads()), silence_scale=1.0
        )
        if not config.validate():
            raise ConfigError(
                f"{str(self.folder)!r} is not a Kokoro model that sherpa-onnx takes, for the reason that it wrote above; sherpa-onnx must be of version 2 or later"
            )
        return sherpa.OfflineTts(config)


def kokoro_folder(given: str) -> str:
    """The folder of a spec `kokoro:FOLDER`, or of the environment.

    Raises:
        ConfigError: neither names one.
    """
    folder = given or os.environ.get(VARIABLE, "")
    if not folder:
        raise ConfigError(
            f"--voices kokoro needs the folder of a Kokoro model as sherpa-onnx publishes it: give kokoro:FOLDER, or set {VARIABLE}; "
            "asrkd downloads none"
        )
    return folder
