"""Stage 0 of the recipe: cuts of LibriSpeech by lhotse's own download and preparation, and 500 pieces by SentencePiece.

Corpus: https://www.openslr.org/12 (CC BY 4.0), Panayotov et al. 2015.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lhotse import CutSet, MonoCut
from lhotse.recipes import download_librispeech, prepare_librispeech

from asrkd.corpus.join import write_cuts
from asrkd.corpus.train_tokens import make_tokens
from asrkd.errors import CorpusError
from asrkd_recipes.corpora import Progress, finish, finished, without_text

TRAIN = ("train-clean-100", "train-clean-360", "train-other-500")
TESTS = {"dev": ("dev-clean", "dev-other"), "test_clean": ("test-clean",), "test_other": ("test-other",)}
SETS: Mapping[str, Mapping[str, Sequence[str]]] = {
    # 860 hours without their transcripts.
    "100h": {"labeled": TRAIN[:1], "unlabeled": TRAIN[1:], "transcribed": TRAIN, **TESTS},
    # The teacher labels what it was trained on, and whatever --untranscribed adds.
    "960h": {"labeled": TRAIN, "unlabeled": TRAIN, "transcribed": TRAIN, **TESTS},
    "mini": {"labeled": TRAIN[:1], "unlabeled": TRAIN[1:], "transcribed": TRAIN, **TESTS},
}
PIECES = {"100h": 500, "960h": 500, "mini": 40}
# Where pieces come from: five utterances do not have every letter.
TEXTS = {"100h": ("labeled",), "960h": ("labeled",), "mini": ("transcribed", *TESTS)}


def prepare(setting: str, corpus_dir: Path | None, data: Path, progress: Progress | None = None) -> None:
    """Write cuts to `data`: `labeled`, `unlabeled` (no text), `transcribed` (both with text), `dev`, `test_clean`, `test_other`; and `bpe`,
    pieces of the texts of `TEXTS`.

    Args:
        setting: a key of `SETS`.
        corpus_dir: the folder `LibriSpeech`; downloaded (60 GB) to `data/corpus` if None.

    Raises:
        CorpusError: a part is missing, or audio of its transcripts is.
    """
    if finished(data):
        return
    data.mkdir(parents=True, exist_ok=True)
    root = (corpus_dir or download_librispeech(data / "corpus", "librispeech")).absolute()
    sets = SETS[setting]
    parts = {part: read_part(root, part) for part in sorted({part for parts in sets.values() for part in parts})}
    for number, (name, of_set) in enumerate(sets.items(), 1):
        cuts = [cut for part in of_set for cut in parts[part]]
        if name == "unlabeled":
            cuts = [without_text(cut) for cut in cuts]
        write_cuts(cuts, data / f"{name}.jsonl.gz")
        if progress:
            progress(name, number, len(sets))
    shutil.rmtree(data / "bpe", ignore_errors=True)  # of a preparation that was stopped
    make_tokens(
        [str(data / f"{name}.jsonl.gz") for name in TEXTS[setting]], str(data / "bpe"), "bpe", size=PIECES[setting]
    )
    finish(data)


def read_part(root: Path, part: str) -> list[MonoCut]:
    """The cuts of one part, in the order of their ids.

    Raises:
        CorpusError: the part is not there, or audio of its transcripts is missing: lhotse leaves such utterances out.
    """
    transcripts = sorted((root / part).rglob("*.trans.txt"))
    if not transcripts:
        raise CorpusError(
            f"{str(root / part)!r} has no transcripts (*.trans.txt), and the recipe trains or tests on them; give --corpus-dir the folder "
            "LibriSpeech that the archives of https://www.openslr.org/12 unpack to, with all parts"
        )
    spoken = {
        line.split(maxsplit=1)[0]
        for path in transcripts
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    }
    manifests = prepare_librispeech(root, dataset_parts=part)[part]
    cuts = CutSet.from_manifests(recordings=manifests["recordings"], supervisions=manifests["supervisions"])
    cuts = sorted((_named(cut) for cut in cuts), key=lambda cut: cut.id)
    if missing := sorted(spoken - {cut.id for cut in cuts}):
        raise CorpusError(
            f"{len(missing)} of {len(spoken)} utterances of {part} have a transcript and no audio, the first is {missing[0]!r}; "
            f"unpack {part}.tar.gz again"
        )
    return cuts


def _named(cut: MonoCut) -> MonoCut:
    """A cut of a whole recording, by its name."""
    cut.id = cut.recording_id
    return cut
