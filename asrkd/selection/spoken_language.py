"""The language that is spoken in a cut, as a multilingual text teacher takes its first seconds: a single token of it is enough."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.corpus.resampler import resample
from asrkd.errors import AsrkdError, ModelError, one_line
from asrkd.text_teachers import TextTeacher, load_text_teacher


@dataclass(frozen=True)
class SpokenLanguage:
    """What a cut is taken for: a language as the model names it (`en`), and its probability among the model's languages."""

    name: str
    probability: float


@functools.lru_cache(maxsize=1)
def language_detector(spec: str) -> TextTeacher:
    """The text teacher of a spec (`text:transformers:openai/whisper-tiny`), which writes one token.

    Raises:
        ModelError: it cannot be used, or does not say which language it was.
        DependencyError: its package is not installed.
    """
    detector = load_text_teacher(spec, max_tokens=1, num_beams=1, n_best=1, word_times=False)
    noise = 0.1 * np.random.default_rng(0).standard_normal(detector.sampling_rate).astype(np.float32)
    if _transcribed(detector, noise) is None:
        raise ModelError(
            f"text teacher {spec!r} does not say which language is spoken, as models of one language do not; give a multilingual Whisper model"
        )
    return detector


def spoken_language(samples: NDArray[np.float32], sampling_rate: int, spec: str) -> SpokenLanguage:
    """The language of the first seconds of (num_samples,) samples: as many as the model reads at a time, 30 of Whisper's.

    Raises:
        ModelError: the model cannot be used, or fails.
        DependencyError: its package is not installed.
    """
    detector = language_detector(spec)
    seconds = min(detector.max_seconds, len(samples) / sampling_rate)
    beginning = torch.from_numpy(samples[: round(seconds * sampling_rate)])
    found = _transcribed(detector, resample(beginning, sampling_rate, detector.sampling_rate).numpy())
    if found is None:
        raise ModelError(f"text teacher {spec!r} does not say which language is spoken")
    return found


def _transcribed(detector: TextTeacher, samples: NDArray[np.float32]) -> SpokenLanguage | None:
    try:
        (found,) = detector([samples])
    except AsrkdError:
        raise
    except Exception as error:  # a model of the user's may fail in any way
        raise ModelError(f"text teacher {detector.spec!r} fails: {one_line(error)}") from None
    if not found.language:
        return None
    return SpokenLanguage(found.language, round(found.language_probability or 0.0, 4))
