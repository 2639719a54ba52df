"""Stage 0 of the recipe: connected digits, concatenated from the Free Spoken Digit Dataset, one speaker left out.

Corpus: https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0. File name: DIGIT_SPEAKER_TAKE.wav, 8 kHz.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from asrkd.corpus.audio import write_audio
from asrkd.corpus.augment import NoiseAugment, load_noises
from asrkd.corpus.download import download_archive
from asrkd.corpus.join import Clip, pink_noise, plan_joins, write_joins
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import CorpusError

HOME = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.tar.gz"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SAMPLING_RATE = 8000
DIGITS = {
    "zero": "Z IH R OW",
    "one": "W AH N",
    "two": "T UW",
    "three": "TH R IY",
    "four": "F AO R",
    "five": "F AY V",
    "six": "S IH K S",
    "seven": "S EH V AH N",
    "eight": "EY T",
    "nine": "N AY N",
}

Progress = Callable[[str, int, int], None]


def prepare(
    test_speaker: str, corpus_dir: Path | None, data: Path, progress: Progress | None = None, *, seed: int = 0
) -> None:
    """Write cuts, noises and the lexicon to `data`.

    The two speakers after the test speaker are labeled (takes 5 to 49), the other three are unlabeled; dev is the labeled
    speakers' takes 0 to 4, which are the corpus's official test takes; the test is all of the left-out speaker.

    Raises:
        CorpusError: the folder is not the corpus, or it cannot be downloaded.
    """
    if (data / "prepared").exists():
        return
    data.mkdir(parents=True, exist_ok=True)
    root = corpus_dir or download_archive(HOME, data / "corpus")
    clips = read_clips(root)
    Lexicon.from_pairs([(word, phones.split()) for word, phones in DIGITS.items()]).write(data / "lexicon.txt")
    rng = np.random.default_rng(seed)
    for part in ("train", "test"):
        write_audio(data / "noise" / part / "pink.flac", pink_noise(60 * SAMPLING_RATE, rng), SAMPLING_RATE)
        white = rng.normal(0, 0.05, 60 * SAMPLING_RATE).astype(np.float32)
        write_audio(data / "noise" / part / "white.flac", white, SAMPLING_RATE)
    at = SPEAKERS.index(test_speaker)
    labeled_speakers = {SPEAKERS[(at + shift) % len(SPEAKERS)] for shift in (1, 2)}
    train = [clip for clip, take in clips if clip.speaker != test_speaker and take >= 5]
    labeled = [clip for clip in train if clip.speaker in labeled_speakers]
    unlabeled = [clip for clip in train if clip.speaker not in labeled_speakers]
    dev = [clip for clip, take in clips if clip.speaker in labeled_speakers and take < 5]
    test = [clip for clip, _ in clips if clip.speaker == test_speaker]
    options = {"sampling_rate": SAMPLING_RATE, "seed": seed, "progress": progress, "gap": (0.05, 0.3)}
    labeled_joins = plan_joins(labeled, seed=seed, words=(3, 7), passes=4)
    unlabeled_joins = plan_joins(unlabeled, seed=seed, words=(3, 7), passes=2)
    write_joins(labeled_joins, data, "labeled", **options)
    write_joins(unlabeled_joins, data, "unlabeled", with_text=False, **options)
    write_joins(labeled_joins + unlabeled_joins, data, "transcribed", **options)
    write_joins(plan_joins(dev, seed=seed, words=(3, 7), passes=2), data, "dev", **options)
    tests = plan_joins(test, seed=seed, words=(3, 7))
    noisy = NoiseAugment(load_noises(data / "noise/test", SAMPLING_RATE), (0.0, 15.0), 1.0)
    write_joins(tests, data, "test_clean", **options)
    write_joins(tests, data, "test_noisy", noise=noisy, **options)
    (data / "prepared").write_text(f"test speaker {test_speaker}, seed {seed}\n")


def read_clips(root: Path) -> list[tuple[Clip, int]]:
    """Clips with their take, `.wav` as upstream or losslessly packed as `.flac`."""
    names = list(DIGITS)
    files = sorted(path for path in (root / "recordings").glob("*_*_*.*") if path.suffix in (".wav", ".flac"))
    if not files:
        raise CorpusError(
            f"{str(root)!r} has no recordings/DIGIT_SPEAKER_TAKE.wav; give --corpus-dir the corpus's folder"
        )
    clips = []
    for path in files:
        digit, speaker, take = path.stem.split("_")
        clips.append((Clip(path, names[int(digit)], speaker), int(take)))
    return clips
