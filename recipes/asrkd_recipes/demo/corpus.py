"""The demo's corpus: synthetic speakers of several accents, a few of them transcribed, with noise.

Synthetic speech has far less variation than people's; error rates on it say nothing about real speech, only about
the method's plumbing and the direction of its effects.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from lhotse import MonoCut
from numpy.typing import NDArray

from asrkd import files
from asrkd.corpus.augment import NoiseAugment, utterance_rng
from asrkd.corpus.join import pink_noise, write_cuts
from asrkd.errors import ConfigError
from asrkd_recipes.corpora import clip, without_text
from asrkd_recipes.demo.espeak import Espeak
from asrkd_recipes.demo.speakers import SAMPLING_RATE, Speaker, Synthesizer, draw_speakers
from asrkd_recipes.demo.texts import BABBLE, draw_text, lexicon

# Speakers and utterances of each; the accents of `labeled` are narrow.
SPLITS = {"labeled": (3, 40), "unlabeled": (24, 30), "dev": (5, 16), "test": (10, 20)}
_BABBLERS = 6
NOISES = ("babble", "pink", "brown", "white")
_NOISE_FILES, _NOISE_SECONDS = 2, 12.0  # files of each kind
_SNR = (0.0, 15.0)  # dB
_FLOOR = 2e-4  # root mean square of the noise under every utterance: -74 dB full scale
_MARKER = "prepared"

SplitProgress = Callable[[str, int, int], None]


def make_corpus(
    data: Path,
    *,
    seed: int = 0,
    progress: SplitProgress | None = None,
    scale: float = 1.0,
    counts: Mapping[str, tuple[int, int]] | None = None,
    synthesizer: Synthesizer | None = None,
) -> None:
    """Write the corpus; one that is already there is left as it is.

    `data` then holds, all at 16 kHz:

    - `labeled.jsonl.gz`: few speakers of one accent, with transcripts; `unlabeled.jsonl.gz`: many of all accents,
      without; `transcribed.jsonl.gz`: the cuts of both, with transcripts;
    - `dev.jsonl.gz`, `test_clean.jsonl.gz`, and `test_noisy.jsonl.gz` (the utterances of `test_clean`, half of them
      in a simulated room, with noise at 0..15 dB): other speakers. A noisy cut says its `snr` in dB, of the speech
      (in its room) over the noise, and whether it is `reverberated`, in `custom`;
    - `audio/SPLIT/ID.flac`, `noise/train/*.flac`, `noise/test/*.flac` (other speakers' babble, other pink, brown
      and white noise), `lexicon.txt`, and `prepared`, written last.

    Args:
        data: a folder, made if need be.
        seed: of everything.
        progress: called with (split, utterances written, utterances of the split).
        scale: factor on the utterances of each speaker (at least one is made).
        counts: (speakers, utterances of each) by split, in place of those of `SPLITS`.
        synthesizer: of the voices; eSpeak NG by default.

    Raises:
        ConfigError: `data` holds a corpus of other settings, the counts are of no split or below 1, or there are too few voices.
        DependencyError: the synthesizer is missing.
    """
    sizes = _sizes(counts or {}, scale)
    synthesizer = synthesizer or Espeak()
    settings = {
        "seed": seed,
        "voices": synthesizer.name,
        "noises": list(NOISES),
        "sizes": {split: list(size) for split, size in sizes.items()},
    }
    marker = data / _MARKER
    if marker.exists():
        found = json.loads(marker.read_text(encoding="utf-8"))
        if found != settings:
            raise ConfigError(
                f"{str(data)!r} holds a corpus made with {found}, not with {settings}; choose another folder or remove it"
            )
        return
    groups = draw_speakers(
        synthesizer,
        {split: size[0] for split, size in sizes.items()} | {"noise-train": _BABBLERS, "noise-test": _BABBLERS},
        utterance_rng(seed, 0, "speakers"),
        narrow="labeled",
    )
    data.mkdir(parents=True, exist_ok=True)
    _write_noises(data, groups["noise-train"], "train", seed)
    test_noise = NoiseAugment(_write_noises(data, groups["noise-test"], "test", seed), _SNR, 1.0)
    cuts = {}
    for split in ("labeled", "unlabeled", "dev"):
        cuts[split] = _write_split(data, split, groups[split], seed, sizes[split][1], progress)
    each = sizes["test"][1]
    cuts["test_clean"] = _write_split(data, "test_clean", groups["test"], seed, each, progress)
    cuts["test_noisy"] = _write_split(data, "test_noisy", groups["test"], seed, each, progress, noise=test_noise)
    cuts["transcribed"] = cuts["labeled"] + cuts["unlabeled"]
    cuts["unlabeled"] = [without_text(cut) for cut in cuts["unlabeled"]]
    for name, own in cuts.items():
        write_cuts(own, data / f"{name}.jsonl.gz")
    lexicon().write(data / "lexicon.txt")
    files.write(marker, json.dumps(settings) + "\n")


def _sizes(counts: Mapping[str, tuple[int, int]], scale: float) -> dict[str, tuple[int, int]]:
    """(speakers, utterances of each) by split."""
    for split, size in counts.items():
        if split not in SPLITS:
            raise ConfigError(f"the demo's corpus has no split {split!r}; give counts for {', '.join(SPLITS)}")
        if len(size) != 2 or min(size) < 1:
            raise ConfigError(
                f"counts of {split!r} are {size!r}, but must be (speakers, utterances of each), both at least 1: "
                "no split may be empty"
            )
    return {
        split: (speakers, max(1, round(each * scale))) for split, (speakers, each) in (SPLITS | dict(counts)).items()
    }


def _write_flac(file: Path, samples: NDArray[np.float32]) -> None:
    """(num_samples,) at `SAMPLING_RATE`; louder ones than full scale are made softer."""
    samples = samples / np.float32(max(1.0, float(np.abs(samples).max()) / 0.99))
    sink = io.BytesIO()
    soundfile.write(sink, samples, SAMPLING_RATE, subtype="PCM_16", format="FLAC")
    files.write(file, sink.getvalue())


def _write_split(
    data: Path,
    split: str,
    speakers: Sequence[Speaker],
    seed: int,
    each: int,
    progress: SplitProgress | None,
    *,
    noise: NoiseAugment | None = None,
) -> list[MonoCut]:
    """Audio and cuts, with transcripts. Splits of the same speakers say the same: draws are by speaker and number."""
    cuts = []
    for speaker in speakers:
        for number in range(each):
            name = f"{speaker.name}-{number:03d}"
            rng = utterance_rng(seed, 1, name)
            text = draw_text(rng)
            samples = with_edges(speaker.say(text), rng)
            custom = None
            if noise is not None:
                name = f"{name}-noisy"
                rng = utterance_rng(seed, 2, name)
                in_room = rng.random() < 0.5
                speech = reverberate(samples, rng) if in_room else samples
                samples = noise(speech, rng)
                custom = {"snr": round(_decibels(speech) - _decibels(samples - speech), 2), "reverberated": in_room}
            file = data / "audio" / split / f"{name}.flac"
            _write_flac(file, samples)
            cuts.append(clip(name, file, speaker.name, text, custom))
            if progress:
                progress(split, len(cuts), each * len(speakers))
    return cuts


def _decibels(samples: NDArray[np.float32]) -> float:
    return float(10.0 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def with_edges(speech: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """0.1 to 0.3 s before and after, and faint noise under all of it: digital silence would be a giveaway."""
    before, after = (int(rng.uniform(0.1, 0.3) * SAMPLING_RATE) for _ in range(2))
    padded = np.pad(speech, (before, after))
    return (padded + rng.normal(0.0, _FLOOR, len(padded))).astype(np.float32)


def reverberate(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Speech in a simulated room: (num_samples,) float32 -> the same number of samples, the direct sound in place.

    The impulse response is a direct path and Gaussian noise that decays by 60 dB in 0.2..0.6 s, the noise 0..10 dB
    below the direct path (J. A. Moorer, "About this reverberation business", Computer Music Journal 3(2), 1979).
    """
    decay = float(rng.uniform(0.2, 0.6))
    time = np.arange(int(decay * SAMPLING_RATE)) / SAMPLING_RATE
    tail = rng.normal(size=len(time)) * 10.0 ** (-3.0 * time / decay)
    tail[: SAMPLING_RATE // 400] = 0.0  # no reflection comes within 2.5 ms
    tail *= 10.0 ** (-rng.uniform(0.0, 10.0) / 20.0) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    wet = torchaudio.functional.fftconvolve(torch.tensor(samples), torch.tensor(tail, dtype=torch.float32))
    return wet[: len(samples)].numpy()


def _write_noises(data: Path, speakers: Sequence[Speaker], part: str, seed: int) -> list[NDArray[np.float32]]:
    """Babble, pink, brown and white noise as `noise/PART/*.flac`; returns them."""
    length = int(_NOISE_SECONDS * SAMPLING_RATE)
    noises = []
    for number in range(_NOISE_FILES):
        rng = utterance_rng(seed, 3, f"{part}/{number}")
        sounds = (
            _babble(speakers, length, rng),
            pink_noise(length, rng),
            _brown_noise(length, rng),
            rng.normal(0.0, 0.05, length).astype(np.float32),
        )
        for kind, sound in zip(NOISES, sounds, strict=True):
            _write_flac(data / "noise" / part / f"{kind}{number}.flac", sound)
            noises.append(sound)
    return noises


def _babble(speakers: Sequence[Speaker], length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """All speakers at once, each with sentences in an order of its own from a start of its own."""
    total = np.zeros(length)
    for speaker in speakers:
        level = replace(speaker, level=float(rng.uniform(-34.0, -26.0)))
        said = np.concatenate([level.say(BABBLE[i]) for i in rng.permutation(len(BABBLE))[:4]])
        total += np.resize(np.roll(said, -int(rng.integers(len(said)))), length)
    return total.astype(np.float32)


def _brown_noise(length: int, rng: np.random.Generator, *, level: float = 0.05) -> NDArray[np.float32]:
    """(length,) noise whose power falls as 1/f^2 above 40 Hz, with the root mean square `level`."""
    spectrum = np.fft.rfft(rng.normal(size=length))
    frequency = np.fft.rfftfreq(length, 1.0 / SAMPLING_RATE)
    spectrum /= np.maximum(frequency, 40.0)
    noise = np.fft.irfft(spectrum, length)
    return (noise * level / np.sqrt(np.mean(noise**2))).astype(np.float32)
