"""Something like speech, with word boundaries that are known: phones as noise in bands, pauses, room noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from asrkd.alignment.features import Cepstra, of_samples
from asrkd.alignment.phone_graph import PhoneGraph, phone_graph
from asrkd.alignment.phone_model import spell_phones
from asrkd.corpus.lexicon import Lexicon

RATE = 16000
LEXICON = Lexicon.from_pairs([(word, own) for word, spellings in
    {"mass": ["m a s"], "seam": ["s i m"], "sum": ["s u m"], "me": ["m i"], "us": ["u s"], "am": ["a m", "a"]}.items()
    for own in map(str.split, spellings)])  # fmt: skip
PHONES = tuple(LEXICON.tokens)
# Formants and loudness.
_SOUNDS = {
    "m": ((250, 1000), 0.03),
    "a": ((700, 1200), 0.15),
    "i": ((300, 2300), 0.12),
    "u": ((350, 800), 0.12),
    "s": ((5000, 6500), 0.05),
}


@dataclass(frozen=True)
class Said:
    """Samples, what they say, and for each word its (start, end) in samples."""

    samples: np.ndarray
    text: str
    words: tuple[tuple[int, int], ...]

    @property
    def cepstra(self) -> Cepstra:
        return of_samples(torch.from_numpy(self.samples.astype(np.float32)), RATE)

    def graph(self, text: str | None = None) -> PhoneGraph:
        return phone_graph(spell_phones(text or self.text, LEXICON, PHONES, what="said"))


def room(size: int, rng: np.random.Generator) -> np.ndarray:
    """Silence of a room."""
    return rng.normal(0, 0.001, size)


def phone(name: str, rng: np.random.Generator, ms: float) -> np.ndarray:
    """A sound: noise through two resonances."""
    size = int(ms * RATE / 1000)
    spectrum = np.fft.rfft(rng.normal(size=size))
    frequencies = np.fft.rfftfreq(size, 1 / RATE)
    formants, loudness = _SOUNDS[name]
    shape = sum(1 / (1 + ((frequencies - formant * rng.uniform(0.96, 1.04)) / 120) ** 2) for formant in formants)
    samples = np.fft.irfft(spectrum * shape, size)
    # No sound begins or ends at once.
    fade = np.minimum(1, (np.arange(size) + 1) / (0.025 * RATE))
    return loudness * samples / (samples.std() + 1e-9) * fade * fade[::-1]


def say(text: str, rng: np.random.Generator, *, pauses: float = 0.3) -> Said:
    """The words, pauses before, behind and between some of them."""
    parts, words, at = [], [], 0

    def put(samples: np.ndarray) -> None:
        nonlocal at
        parts.append(samples)
        at += len(samples)

    put(room(int(RATE * rng.uniform(0.1, 0.8)), rng))
    for number, word in enumerate(text.split()):
        if number and rng.random() < pauses:
            put(room(int(RATE * rng.uniform(0.1, 0.4)), rng))
        start = at
        for name in LEXICON.pronunciations[word][0]:
            put(phone(name, rng, rng.uniform(50, 160)))
        words.append((start, at))
    put(room(int(RATE * rng.uniform(0.1, 0.8)), rng))
    samples = np.concatenate(parts)
    return Said(samples + room(len(samples), rng), text, tuple(words))


def sayings(count: int, seed: int = 0) -> list[Said]:
    """So many of three to six words."""
    rng = np.random.default_rng(seed)
    return [say(" ".join(rng.choice(LEXICON.words, size=rng.integers(3, 7))), rng) for _ in range(count)]
