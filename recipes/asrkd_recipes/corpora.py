"""What `prepare` of a recipe shares: tables of clips as cuts, noise for training and for tests, noisy test sets."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.cut import Cut

from asrkd.corpus.audio import read_audio, write_audio
from asrkd.corpus.augment import NoiseAugment, load_noises, utterance_rng
from asrkd.corpus.characters import WORD_BEGIN
from asrkd.corpus.join import pink_noise, write_cuts
from asrkd.errors import CorpusError

Progress = Callable[[str, int, int], None]
SAMPLING_RATE = 16000
TEST_SNR = (0.0, 15.0)
SPEEDS = (0.9, 1.1)
# Sets of cuts, by the values of a table's column `part`.
PARTS = {
    "labeled": ("labelled",),
    "unlabeled": ("unlabelled",),
    "transcribed": ("labelled", "unlabelled"),
    "dev": ("dev",),
    "test": ("test",),
}


def corpus_files(corpus_dir: Path | None, names: Iterable[str], *, what: str) -> Path:
    """The absolute folder of a corpus.

    Raises:
        CorpusError: it is not given, or lacks one of the files.
    """
    root = corpus_dir.absolute() if corpus_dir else None
    for name in names:
        if root is None or not (root / name).is_file():
            raise CorpusError(f"--corpus-dir must be a folder with {what}; {str(corpus_dir)!r} has no {name}")
    assert root is not None
    return root


def clips_of_table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Rows of a table with tabs and a header.

    Raises:
        CorpusError: it lacks one of the columns, or has no rows.
    """
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    if missing := [name for name in columns if not rows or name not in rows[0]]:
        raise CorpusError(
            f"{str(path)!r} has no column {missing[0]!r}"
            + ("" if rows else ", and no rows")
            + "; is it the corpus's own table?"
        )
    return rows


def write_parts(
    rows: Iterable[Mapping[str, str]],
    root: Path,
    data: Path,
    *,
    parts: Mapping[str, Collection[str]] = PARTS,
    custom: Callable[[Mapping[str, str]], dict[str, object]] = lambda row: {},
    progress: Progress | None = None,
) -> None:
    """Cuts of a table's clips, by part: a row's `id`, `path` below `root`, `speaker`, `text` and `part`.

    Args:
        parts: of each set of cuts (`NAME.jsonl.gz` in `data`), the values of `part` that belong to it. The set `unlabeled` has no text; clips without a
            text are in no other set.
        custom: further facts of a cut.
    """
    rows = list(rows)
    data.mkdir(parents=True, exist_ok=True)
    for number, (name, values) in enumerate(parts.items(), 1):
        with_text = name != "unlabeled"
        chosen = [row for row in rows if row["part"] in values and (row["text"] or not with_text)]
        cuts = [
            clip(row["id"], root / row["path"], row["speaker"], row["text"] if with_text else None, custom(row))
            for row in chosen
        ]
        write_cuts(cuts, data / f"{name}.jsonl.gz")
        if progress:
            progress(name, number, len(parts))


def clip(
    key: str, file: Path, speaker: str, text: str | None = None, custom: Mapping[str, object] | None = None
) -> MonoCut:
    """The cut of a whole file in which one speaker says one thing."""
    recording = Recording.from_file(file.absolute(), recording_id=key)
    supervision = SupervisionSegment(key, key, 0.0, recording.duration, text=text, speaker=speaker)
    return MonoCut(
        key,
        0.0,
        recording.duration,
        0,
        recording=recording,
        supervisions=[supervision],
        custom=dict(custom) if custom else None,
    )


def without_text(cut: Cut) -> Cut:
    """The cut as untranscribed speech."""
    return cut.map_supervisions(lambda supervision: supervision.transform_text(lambda text: None))


def split_noises(corpus_dir: Path, data: Path, test: Collection[str], *, seed: int = 0) -> None:
    """Background recordings to `data/noise/train` and `data/noise/test`, with pink noise for training; test noises are in no training.

    The recordings are the sound files below `noise` in the corpus's folder or next to it; impulse responses (`rir_*`) are left out.

    Args:
        test: names, without suffix, of those for tests.

    Raises:
        CorpusError: there is no such folder, or it lacks noises for one of the two.
    """
    places = [corpus_dir / "noise", corpus_dir.parent / "noise"]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise CorpusError(
            f"{str(places[0])!r} does not exist, nor does {str(places[1])!r}; put background recordings there, {', '.join(sorted(test))} among them "
            "for the tests"
        )
    files = [
        path
        for path in sorted(found.rglob("*"))
        if path.suffix in (".wav", ".flac", ".opus") and not path.stem.startswith("rir")
    ]
    for part in ("train", "test"):
        own = [path for path in files if (path.stem in test) == (part == "test")]
        if not own:
            raise CorpusError(
                f"{str(found)!r} has no noise for the {part} sets; the tests take {', '.join(sorted(test))}, training the others"
            )
        for path in own:
            write_audio(data / "noise" / part / f"{path.stem}.flac", load_noises(path, SAMPLING_RATE)[0], SAMPLING_RATE)
    pink = pink_noise(30 * SAMPLING_RATE, np.random.default_rng(seed))
    write_audio(data / "noise/train/pink.flac", pink, SAMPLING_RATE)


def write_noisy(
    data: Path,
    name: str,
    *,
    noises: str = "test",
    snr: tuple[float, float] = TEST_SNR,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """A copy of a set of cuts, `NAME_noisy`, with a noise in each, from the seed.

    Args:
        noises: `test`, or `train` for a copy of dev: of `data/noise`.
    """
    add = NoiseAugment(load_noises(data / "noise" / noises, SAMPLING_RATE), snr, 1.0)
    cuts = list(CutSet.from_file(data / f"{name}.jsonl.gz"))
    noisy = []
    for number, cut in enumerate(cuts, 1):
        samples = add(read_audio(cut, SAMPLING_RATE), utterance_rng(seed, 1, f"{name}/{cut.id}"))
        peak = float(np.abs(samples).max(initial=0.0))
        file = (data / "audio" / f"{name}_noisy" / f"{cut.id}.flac").absolute()
        write_audio(file, samples / peak * 0.99 if peak > 0.99 else samples, SAMPLING_RATE)
        recording = Recording.from_file(file, recording_id=cut.id)
        noisy.append(
            MonoCut(
                cut.id,
                0.0,
                recording.duration,
                0,
                recording=recording,
                supervisions=cut.supervisions,
                custom=cut.custom,
            )
        )
        if progress:
            progress(f"{name}_noisy", number, len(cuts))
    write_cuts(noisy, data / f"{name}_noisy.jsonl.gz")


def write_babble(data: Path, name: str, *, files: int = 4, seconds: float = 60.0, seed: int = 0) -> None:
    """Noise for training from a set of cuts: several of its speakers at once, equally loud, to `data/noise/babble`.

    Args:
        files: how many, each of other speakers, with three to seven voices as in Kaldi's recipes with MUSAN (Snyder, Chen, Povey 2015).
        seconds: of each.
    """
    spoken: dict[str, list[Cut]] = {}
    for cut in CutSet.from_file(data / f"{name}.jsonl.gz"):
        spoken.setdefault(cut.supervisions[0].speaker, []).append(cut)
    length = round(seconds * SAMPLING_RATE)
    for number in range(1, files + 1):
        rng = utterance_rng(seed, 2, f"babble-{number}")
        voices = rng.permutation(sorted(spoken))[: rng.integers(3, 8)]
        mixed = np.zeros(length, dtype=np.float32)
        for voice in voices:
            cuts = [spoken[voice][one] for one in rng.permutation(len(spoken[voice]))]
            speech = np.resize(np.concatenate([read_audio(cut, SAMPLING_RATE) for cut in cuts]), length)
            if loudness := float(np.sqrt(np.mean(speech**2))):
                mixed += speech / loudness
        peak = float(np.abs(mixed).max())
        write_audio(data / "noise/babble" / f"{number}.flac", mixed * (0.9 / peak) if peak else mixed, SAMPLING_RATE)


def write_speeds(data: Path, name: str) -> None:
    """A set of cuts spoken slower and faster, `NAME_speed` (Ko et al. 2015: audio that is played at other speeds, so that voices are others, too); lhotse resamples them when they are read."""
    cuts = list(CutSet.from_file(data / f"{name}.jsonl.gz"))
    write_cuts([cut.perturb_speed(speed) for speed in SPEEDS for cut in cuts], data / f"{name}_speed.jsonl.gz")


def write_letter_lexicon(file: Path, words: Iterable[str]) -> None:
    """A lexicon of words spelled in letters, each with the sign that begins a word."""
    file.write_text("".join(f"{word}\t{WORD_BEGIN} {' '.join(word)}\n" for word in words), encoding="utf-8")


def finished(data: Path) -> bool:
    """Whether `prepare` has been here to its end (`finish`)."""
    return (data / "prepared").exists()


def finish(data: Path) -> None:
    """Note that everything is prepared."""
    temporary = data / f".{os.getpid()}.prepared"
    temporary.write_text("\n")
    os.replace(temporary, data / "prepared")
