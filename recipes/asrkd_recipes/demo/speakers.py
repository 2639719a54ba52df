"""The demo's speakers: a voice of eSpeak NG with its own speed, pitch, vocal tract and loudness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from asrkd.errors import ConfigError
from asrkd_recipes.demo.espeak import synthesize

SAMPLING_RATE = 16000
ACCENTS = (
    "en-us",
    "en-us-nyc",
    "en",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
)
_VARIANTS = (
    *("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"),
    *("Alicia", "Andrea", "Andy", "Annie", "Denis", "Marco", "Michael", "anika", "grandma", "grandpa", "linda"),
    *("rob", "steph", "travis", "victor"),
)
# The synthesizer's rate is rounded to this, so that its ratio to SAMPLING_RATE has small terms.
_RATE_STEP = 50


@dataclass(frozen=True)
class Speaker:
    """One speaker.

    Attributes:
        voice: of eSpeak NG, with its variant.
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

    def say(self, text: str) -> NDArray[np.float32]:
        """(num_samples,) float32 at `SAMPLING_RATE`, without the synthesizer's silence at both ends."""
        samples, native = synthesize(
            text, self.voice, rate=round(self.rate / self.tract), pitch=self.pitch, pitch_range=self.pitch_range
        )
        source = round(native * self.tract / _RATE_STEP) * _RATE_STEP
        speech = torchaudio.functional.resample(
            torch.from_numpy(samples.astype(np.float32) / 32768.0), source, SAMPLING_RATE
        )
        speech = _trim(speech)
        speech = speech * (10.0 ** (self.level / 20.0) / speech.square().mean().sqrt())
        return (speech / max(1.0, float(speech.abs().max()) / 0.99)).numpy()


def draw_speakers(counts: dict[str, int], rng: np.random.Generator, *, narrow: str = "") -> dict[str, list[Speaker]]:
    """Speakers of each group; none is in two groups, and no voice with its variant is used twice.

    Args:
        counts: speakers by name of group.
        narrow: the group whose speakers have the first accent, and speeds and vocal tracts near the middle; all
            others are dealt from all accents in turn. An empty name is none.

    Raises:
        ConfigError: more speakers than there are voices.
    """
    if sum(counts.values()) > len(ACCENTS) * len(_VARIANTS) or counts.get(narrow, 0) > len(_VARIANTS):
        raise ConfigError(
            f"{counts} are more speakers than the {len(ACCENTS) * len(_VARIANTS)} voices of the demo; ask for fewer"
        )
    left = {accent: [str(v) for v in rng.permutation(_VARIANTS)] for accent in ACCENTS}
    groups = {}
    if narrow:
        groups[narrow] = [_draw(f"{narrow}{i:02d}", ACCENTS[0], left, rng, True) for i in range(counts.get(narrow, 0))]
    turn = 0
    for group, count in counts.items():
        if group == narrow:
            continue
        groups[group] = []
        for i in range(count):
            while not left[ACCENTS[turn % len(ACCENTS)]]:
                turn += 1
            groups[group].append(_draw(f"{group}{i:02d}", ACCENTS[turn % len(ACCENTS)], left, rng, False))
            turn += 1
    return groups


def _draw(name: str, accent: str, left: dict[str, list[str]], rng: np.random.Generator, narrow: bool) -> Speaker:
    spread = 0.3 if narrow else 1.0

    def around(middle: float, width: float) -> float:
        return float(middle + spread * rng.uniform(-width, width))

    return Speaker(
        name=name,
        voice=f"{accent}+{left[accent].pop()}",
        rate=round(around(175, 45)),
        pitch=round(around(50, 25)),
        pitch_range=round(around(50, 30)),
        tract=around(1.0, 0.1),
        level=around(-24.0, 8.0),
    )


def _trim(speech: torch.Tensor) -> torch.Tensor:
    """Cut both ends off up to the first and last sample above 0.5 % of the peak."""
    loud = torch.nonzero(speech.abs() > 0.005 * speech.abs().max()).flatten()
    return speech[int(loud[0]) : int(loud[-1]) + 1]
