"""Stage 0 of the recipe: cuts of the coffee orders of Picovoice's speech-to-intent benchmark (Apache-2.0), natural English of 54 words.

Corpus: https://github.com/Picovoice/speech-to-intent-benchmark, with a table of texts, speakers and parts (see `prepare`).
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from lhotse import CutSet, Recording, SupervisionSegment

from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import CorpusError

# CMUdict's pronunciations (BSD); `a` and `an` are one word, which the texts do not distinguish.
LEXICON = Path(__file__).with_name("lexicon.txt")
PARTS = {
    "labeled": ("labelled",),
    "unlabeled": ("unlabelled",),
    "transcribed": ("labelled", "unlabelled"),
    "dev": ("dev",),
    "test": ("test",),
}


def prepare(corpus_dir: Path | None, data: Path, progress: Callable[[str, int, int], None] | None = None) -> None:
    """Write cuts and the lexicon to `data`: `labeled` (13 minutes), `unlabeled` (35, no text), `transcribed` (both with text), `dev`, `test`.

    `corpus_dir` holds recordings of 16 kHz and `utts.tsv`, a table with the columns id, path, speaker, text and part (labelled, unlabelled,
    dev, test). Upstream gives slots, not texts.

    Raises:
        CorpusError: the folder is not given, or not the corpus.
    """
    if (data / "prepared").exists():
        return
    table = corpus_dir.absolute() / "utts.tsv" if corpus_dir else None
    if table is None or not table.is_file():
        raise CorpusError(
            f"--corpus-dir must be a folder with utts.tsv and the recordings; {str(corpus_dir)!r} is none"
        )
    data.mkdir(parents=True, exist_ok=True)
    Lexicon.read(LEXICON).write(data / "lexicon.txt")
    with open(table, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    for number, (name, parts) in enumerate(PARTS.items()):
        own = [row for row in rows if row["part"] in parts]
        CutSet.from_cuts(_cut(row, table.parent, name != "unlabeled") for row in own).to_file(data / f"{name}.jsonl.gz")
        if progress:
            progress(name, number + 1, len(PARTS))
    (data / "prepared").write_text("\n")


def _cut(row: dict[str, str], root: Path, with_text: bool):  # type: ignore[no-untyped-def]
    cut = Recording.from_file(root / row["path"], recording_id=row["id"]).to_cut()
    text = " ".join("A" if word == "AN" else word for word in row["text"].split()) if with_text else None
    cut.id = row["id"]
    cut.supervisions = [SupervisionSegment(row["id"], row["id"], 0.0, cut.duration, text=text, speaker=row["speaker"])]
    return cut
