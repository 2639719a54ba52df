"""A text teacher: what reads samples and writes text, and what makes its text meaningful."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import AsrkdError, ModelError, one_line
from asrkd.text_teachers.settings import TextSettings

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Word:
    """A word of a text with its times in seconds from the beginning of the utterance."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class WrittenText:
    """A text that a model wrote.

    Attributes:
        text: as it wrote it.
        tokens: ids of its vocabulary, without those that are not text.
        log_probs: natural-log probability of each token given those before.
        log_prob: of the whole, with the token that ends it; the sum of `log_probs` if None.
        finished: the model ended it, rather than its limit of tokens.
    """

    text: str
    tokens: Sequence[int] = ()
    log_probs: Sequence[float] = ()
    log_prob: float | None = None
    finished: bool = True

    @property
    def total(self) -> float:
        """Its log-probability; NaN where the model gives none."""
        if self.log_prob is not None:
            return self.log_prob
        return math.fsum(self.log_probs) if len(self.log_probs) else math.nan

    @property
    def confidence(self) -> float:
        """Geometric mean of the probabilities of its tokens, its end counted as one where `log_prob` has it; NaN where the model gives none."""
        count = len(self.tokens) + (self.log_prob is not None and self.finished)
        return math.exp(self.total / max(count, 1))


@dataclass(frozen=True)
class Transcription:
    """What a text teacher makes of an utterance.

    Attributes:
        hypotheses: the best first, at least one.
        words: of the best, with times; None where they are not known.
        no_speech: probability that nothing is said; None where the model does not say.
        language, language_probability: what the model takes the speech for; None where it does not say.
    """

    hypotheses: Sequence[WrittenText]
    words: Sequence[Word] | None = None
    no_speech: float | None = None
    language: str | None = None
    language_probability: float | None = None


@dataclass(frozen=True)
class TextTeacher:
    """A model that writes what is said.

    Attributes:
        transcribe: (S,) float32 samples in -1..1 of utterances -> a transcription of each, the same in any batch.
        fingerprint: over what its texts depend on; with the settings once it is loaded by spec.
        sampling_rate: of the samples, hertz.
        max_seconds: the longest utterance that it takes.
        batch_size: utterances that it is given together.
        spec: that it was loaded from.
        settings: what is made of its text.
    """

    transcribe: Callable[[Sequence[Samples]], Sequence[Transcription]]
    fingerprint: str
    sampling_rate: int = FrontEnd.sampling_rate
    max_seconds: float = math.inf
    batch_size: int = 1
    spec: str = ""
    settings: TextSettings = field(default_factory=lambda: TextSettings(model="python:"))

    def __call__(self, samples: Sequence[Samples]) -> list[Transcription]:
        """Transcriptions of utterances.

        Raises:
            ModelError: what the model gives is not a transcription of each. Other errors are the model's own.
        """
        found = list(self.transcribe(samples))
        if len(found) != len(samples):
            raise ModelError(
                f"text teacher {self.spec!r} gives {len(found)} transcriptions of {len(samples)} utterances; correct it"
            )
        for one in found:
            if problem := _problem(one):
                raise ModelError(f"text teacher {self.spec!r} gives {problem}; correct it")
        return found

    def works(self) -> bool:
        """Whether it runs at all: a failure on an utterance is then the utterance's."""
        noise = 0.1 * np.random.default_rng(0).standard_normal(self.sampling_rate).astype(np.float32)
        try:
            self([noise])
        except Exception:
            return False
        return True


def _problem(found: Transcription) -> str:
    """What is wrong with a transcription; empty if nothing is."""
    if not isinstance(found, Transcription) or not found.hypotheses:
        return f"a {type(found).__name__} without hypotheses in place of a Transcription"
    for one in found.hypotheses:
        if not isinstance(one, WrittenText) or not isinstance(one.text, str):
            return f"a hypothesis {one!r:.80}, which is not a WrittenText with a text"
        if len(one.tokens) != len(one.log_probs) and len(one.log_probs):
            return f"{len(one.log_probs)} log-probabilities of {len(one.tokens)} tokens"
        if any(not value <= 1e-3 for value in (*one.log_probs, *([] if one.log_prob is None else [one.log_prob]))):
            return f"log-probabilities that are NaN or above 0 for {one.text!r:.80}"
    return ""


def failure(spec: str, error: Exception, what: str) -> AsrkdError:
    """The error of a model that cannot be loaded, in one line."""
    return error if isinstance(error, AsrkdError) else ModelError(f"text teacher {spec!r}: {what} ({one_line(error)})")
