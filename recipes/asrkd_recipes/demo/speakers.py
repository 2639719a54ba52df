"""The demo's speakers: a voice of a synthesizer with its own speed, pitch, vocal tract and loudness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from asrkd.errors import ConfigError

SAMPLING_RATE = 16000
# The synthesizer's rate is rounded to this, so that its ratio to SAMPLING_RATE has small terms.
_RATE_STEP = 50


class Synthesizer(Protocol):
    """Speech from text."""

    @property
    def name(self) -> str:
        """Differs where the same text and voice sound different."""
        ...

    @property
    def voices(self) -> Mapping[str, Sequence[str]]:
        """By accent; the first accent is that of the transcribed speakers."""
        ...

    def unknown_words(self, text: str) -> Sequence[str]:
        """Those that it cannot say."""
        ...

    def speak(
        self, text: str, voice: str, *, rate: int, pitch: int, pitch_range: int
    ) -> tuple[NDArray[np.float32], int]:
        """Samples (num_samples,) in -1..1, and their sampling rate in hertz.

        Args:
            rate: words a minute, about 175 in the middle.
            pitch, pitch_range: 0..99, where 50 is the voice's own; ignored by a synthesizer that cannot change them.
        """
        ...


@dataclass(frozen=True)
class Speaker:
    """One speaker.

    Attributes:
        voice: of the synthesizer.
        rate: words a minute.
        pitch, pitch_range: 0..99.
        tract: factor on all resonances (and the pitch), by resampling; above 1 is a shorter vocal tract.
        level: root mean square of an utterance, in dB full scale.
    """

    name: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    tract: float
    level: float
    synthesizer: Synthesizer = field(repr=False, compare=False)

    def say(self, text: str) -> NDArray[np.float32]:
        """(num_samples,) float32 at `SAMPLING_RATE`, without the synthesizer's silence at both ends."""
        samples, native = self.synthesizer.speak(
            text, self.voice, rate=round(self.rate / self.tract), pitch=self.pitch, pitch_range=self.pitch_range
        )
        source = round(native * self.tract / _RATE_STEP) * _RATE_STEP
        speech = torchaudio.functional.resample(torch.from_numpy(samples), source, SAMPLING_RATE)
        speech = _trim(speech)
        speech = speech * (10.0 ** (self.level / 20.0) / speech.square().mean().sqrt())
        return (speech / max(1.0, float(speech.abs().max()) / 0.99)).numpy()


def draw_speakers(
    synthesizer: Synthesizer, counts: Mapping[str, int], rng: np.random.Generator, *, narrow: str = ""
) -> dict[str, list[Speaker]]:
    """Speakers of each group. No voice is in two groups, and where there are voices enough no two speakers share one.

    Args:
        counts: speakers by name of group.
        narrow: the group whose speakers have the first accent, and speeds and vocal tracts near the middle; all
            others are dealt from all accents in turn. An empty name is none.

    Raises:
        ConfigError: more groups than voices.
    """
    left = {accent: [str(v) for v in rng.permutation(voices)] for accent, voices in synthesizer.voices.items()}
    accents = list(left)
    shares = _shares(counts, sum(map(len, left.values())), synthesizer.name)
    own = {}
    if narrow:
        own[narrow] = [left[accents[0]].pop() for _ in range(min(shares.get(narrow, 0), len(left[accents[0]])))]
    turn = 0
    for group, share in shares.items():
        if group == narrow:
            continue
        own[group] = []
        for _ in range(share):
            while not left[accents[turn % len(accents)]]:
                turn += 1
            own[group].append(left[accents[turn % len(accents)]].pop())
            turn += 1
    return {
        group: [
            _draw(f"{group}{i:02d}", voices[i % len(voices)], synthesizer, rng, group == narrow)
            for i in range(counts.get(group, 0))
        ]
        for group, voices in own.items()
    }


def _shares(counts: Mapping[str, int], available: int, name: str) -> dict[str, int]:
    """Voices of each group: one for each speaker, or, where there are too few, in proportion to the speakers and at least one.

    Raises:
        ConfigError: more groups than voices.
    """
    wanted = sum(counts.values())
    if wanted <= available:
        return dict(counts)
    if len(counts) > available:
        raise ConfigError(
            f"{name} has {available} voices of English, but the demo needs {len(counts)}: no two of its groups of speakers "
            f"({', '.join(counts)}) share a voice; take a model with more voices"
        )
    shares = {group: max(1, count * available // wanted) for group, count in counts.items()}
    while sum(shares.values()) > available:
        shares[max(shares, key=shares.__getitem__)] -= 1
    return shares


def _draw(name: str, voice: str, synthesizer: Synthesizer, rng: np.random.Generator, narrow: bool) -> Speaker:
    spread = 0.3 if narrow else 1.0

    def around(middle: float, width: float) -> float:
        return float(middle + spread * rng.uniform(-width, width))

    return Speaker(
        name=name,
        voice=voice,
        rate=round(around(175, 45)),
        pitch=round(around(50, 25)),
        pitch_range=round(around(50, 30)),
        tract=around(1.0, 0.1),
        level=around(-24.0, 8.0),
        synthesizer=synthesizer,
    )


def _trim(speech: torch.Tensor) -> torch.Tensor:
    """Cut both ends off up to the first and last sample above 0.5 % of the peak."""
    loud = torch.nonzero(speech.abs() > 0.005 * speech.abs().max()).flatten()
    return speech[int(loud[0]) : int(loud[-1]) + 1]
