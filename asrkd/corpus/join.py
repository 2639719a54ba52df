"""Utterances of concatenated real words: clips of one speaker joined with gaps, from a seed.

They are never connected speech: coarticulation across words is missing, and a report must say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from numpy.typing import NDArray

from asrkd.corpus.audio import write_audio
from asrkd.corpus.augment import NoiseAugment, load_noises, utterance_rng


@dataclass(frozen=True)
class Clip:
    """One recorded word."""

    path: Path
    word: str
    speaker: str


@dataclass(frozen=True)
class Join:
    """An utterance to be made of clips."""

    id: str
    clips: tuple[Clip, ...]

    @property
    def text(self) -> str:
        return " ".join(clip.word for clip in self.clips)


def plan_joins(clips: Iterable[Clip], *, seed: int, words: tuple[int, int] = (2, 5), passes: int = 1) -> list[Join]:
    """Shuffle each speaker's clips and cut them into utterances; every clip is used once in each pass.

    Args:
        words: fewest and most words in an utterance (the last of a speaker's pass may be shorter).
        passes: how often to go through the clips, each time in another order.
    """
    by_speaker: dict[str, list[Clip]] = {}
    for clip in sorted(clips, key=lambda c: (c.speaker, c.word, str(c.path))):
        by_speaker.setdefault(clip.speaker, []).append(clip)
    joins = []
    for speaker, own in by_speaker.items():
        rng = utterance_rng(seed, 0, speaker)
        number = 0
        for _ in range(passes):
            order, at = rng.permutation(len(own)), 0
            while at < len(own):
                count = int(rng.integers(words[0], words[1] + 1))
                chosen = tuple(own[i] for i in order[at : at + count])
                joins.append(Join(f"{speaker}-{number:05d}", chosen))
                at, number = at + count, number + 1
    return joins


def join_samples(
    parts: Sequence[NDArray[np.float32]], sampling_rate: int, rng: np.random.Generator, *, gap: tuple[float, float]
) -> NDArray[np.float32]:
    """Parts one after another with gaps (seconds) of faint white noise (-66 dB full scale) between and around them."""

    def silence() -> NDArray[np.float32]:
        return rng.normal(0.0, 5e-4, int(rng.uniform(*gap) * sampling_rate)).astype(np.float32)

    pieces = [silence()]
    for part in parts:
        pieces += [part, silence()]
    return np.concatenate(pieces)


def write_joins(
    joins: Sequence[Join],
    folder: Path,
    name: str,
    *,
    sampling_rate: int,
    seed: int,
    gap: tuple[float, float] = (0.0, 0.2),
    noise: NoiseAugment | None = None,
    with_text: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Make the utterances as FLAC files and write their cuts; returns the path of `NAME.jsonl.gz`.

    Args:
        folder: audio goes to `folder/audio/NAME/`, the manifest to `folder/NAME.jsonl.gz`, written last.
        noise: added to the whole utterance (a noisy test condition).
        with_text: whether the cuts carry their transcripts.
    """
    loaded: dict[Path, NDArray[np.float32]] = {}
    cuts = []
    for number, join in enumerate(joins, 1):
        for clip in join.clips:
            if clip.path not in loaded:
                loaded[clip.path] = load_noises(clip.path, sampling_rate)[0]
        rng = utterance_rng(seed, 1, f"{name}/{join.id}")
        samples = join_samples([loaded[clip.path] for clip in join.clips], sampling_rate, rng, gap=gap)
        if noise is not None:
            samples = noise(samples, rng)
        peak = float(np.abs(samples).max(initial=0.0))
        file = folder / "audio" / name / f"{join.id}.flac"
        write_audio(file, samples / peak * 0.99 if peak > 0.99 else samples, sampling_rate)
        cuts.append(_cut(join, file, with_text=with_text))
        if progress:
            progress(name, number, len(joins))
    return write_cuts(cuts, folder / f"{name}.jsonl.gz")


def write_cuts(cuts: Sequence[MonoCut], path: Path) -> Path:
    """Write a cuts manifest whole or not at all."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    CutSet.from_cuts(cuts).to_file(temporary)
    os.replace(temporary, path)
    return path


def _cut(join: Join, file: Path, *, with_text: bool) -> MonoCut:
    recording = Recording.from_file(file.absolute(), recording_id=join.id)
    supervision = SupervisionSegment(
        id=join.id,
        recording_id=join.id,
        start=0.0,
        duration=recording.duration,
        text=join.text if with_text else None,
        speaker=join.clips[0].speaker,
    )
    return MonoCut(
        id=join.id, start=0.0, duration=recording.duration, channel=0, recording=recording, supervisions=[supervision]
    )


def pink_noise(num_samples: int, rng: np.random.Generator, *, level: float = 0.05) -> NDArray[np.float32]:
    """(num_samples,) noise whose power falls as 1/f, with the root mean square `level`."""
    spectrum = np.fft.rfft(rng.normal(size=num_samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1.0))
    noise = np.fft.irfft(spectrum, num_samples)
    return (noise * level / np.sqrt(np.mean(noise**2))).astype(np.float32)
