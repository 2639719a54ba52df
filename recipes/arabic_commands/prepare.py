"""Stage 0 of the recipe: cuts of concatenated real words from the Arabic Speech Commands corpus.

Corpus: Ghandoura, Hjabo & Al Dakkak 2021, CC BY 4.0, https://github.com/abdulkaderghandoura/arabic-speech-commands-dataset
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from asrkd.corpus.audio import write_audio
from asrkd.corpus.augment import NoiseAugment, load_noises
from asrkd.corpus.download import download_archive
from asrkd.corpus.join import Clip, pink_noise, plan_joins, write_joins
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import CorpusError

HOME = "https://github.com/abdulkaderghandoura/arabic-speech-commands-dataset/archive/refs/heads/master.tar.gz"
SAMPLING_RATE = 16000
LABELED_SPEAKERS = 4
TEST_SNR = (0.0, 15.0)
# Read from the corpus's keywords.jpg; the class names are translations, the phones are what is spoken.
LEXICON = Path(__file__).with_name("lexicon.txt")

Progress = Callable[[str, int, int], None]


def prepare(corpus_dir: Path | None, data: Path, progress: Progress | None = None, *, seed: int = 0) -> None:
    """Write cuts, noises and the lexicon to `data`.

    `labeled` (4 speakers), `unlabeled` (14 speakers, no text), `transcribed` (all 18 with text, for the upper bound
    alone), `dev`, `test_clean`, `test_noisy`.

    Raises:
        CorpusError: the folder is not the corpus, or it cannot be downloaded.
    """
    if (data / "prepared").exists():
        return
    data.mkdir(parents=True, exist_ok=True)
    root = corpus_dir or download_archive(HOME, data / "corpus")
    splits = {name: read_split(root, name) for name in ("train", "val", "test")}
    lexicon = Lexicon.read(LEXICON)
    lexicon.write(data / "lexicon.txt")
    train_noise, test_noise = split_noises(root, data, seed)
    speakers = sorted({clip.speaker for clip in splits["train"]})
    labeled = [clip for clip in splits["train"] if clip.speaker in speakers[:LABELED_SPEAKERS]]
    unlabeled = [clip for clip in splits["train"] if clip.speaker not in speakers[:LABELED_SPEAKERS]]
    noisy = NoiseAugment(load_noises(test_noise, SAMPLING_RATE), TEST_SNR, 1.0)
    options = {"sampling_rate": SAMPLING_RATE, "seed": seed, "progress": progress}
    labeled_joins = plan_joins(labeled, seed=seed, passes=4)
    unlabeled_joins = plan_joins(unlabeled, seed=seed, passes=2)
    write_joins(labeled_joins, data, "labeled", **options)
    write_joins(unlabeled_joins, data, "unlabeled", with_text=False, **options)
    # The same 4 passes of the labeled speakers' words and 2 of the others', now with every word known.
    write_joins(labeled_joins + unlabeled_joins, data, "transcribed", **options)
    write_joins(plan_joins(splits["val"], seed=seed), data, "dev", **options)
    test = plan_joins(splits["test"], seed=seed)
    write_joins(test, data, "test_clean", **options)
    write_joins(test, data, "test_noisy", noise=noisy, **options)
    (data / "prepared").write_text(f"seed {seed}\n")


def read_split(root: Path, name: str) -> list[Clip]:
    """The clips of an official split, `.wav` as upstream or losslessly packed as `.flac`."""
    table = root / f"{name}.csv"
    if not table.exists():
        raise CorpusError(
            f"{str(table)!r} does not exist; give --corpus-dir the folder that holds train.csv and dataset/"
        )
    clips = []
    with open(table, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            path = next((p for p in map((root / row["file"]).with_suffix, (".wav", ".flac")) if p.exists()), None)
            if path is None:
                raise CorpusError(f"{str(root / row['file'])!r} of {name}.csv does not exist as .wav or .flac")
            clips.append(Clip(path, row["class"].replace(" ", "_"), path.name.split("_")[0]))
    return clips


def split_noises(root: Path, data: Path, seed: int) -> tuple[Path, Path]:
    """The first 70 % of each background noise for training, the rest for the test; pink noise next to each."""
    rng = np.random.default_rng(seed)
    for path in sorted((root / "background_noise").glob("*.*")):
        if path.suffix not in (".wav", ".flac"):
            continue
        samples = load_noises(path, SAMPLING_RATE)[0]
        cut = int(0.7 * len(samples))
        write_audio(data / "noise/train" / f"{path.stem}.flac", samples[:cut], SAMPLING_RATE)
        write_audio(data / "noise/test" / f"{path.stem}.flac", samples[cut:], SAMPLING_RATE)
    for part in ("train", "test"):
        write_audio(data / "noise" / part / "pink.flac", pink_noise(30 * SAMPLING_RATE, rng), SAMPLING_RATE)
    return data / "noise/train", data / "noise/test"
