"""Stage 0 of the recipe: cuts of one language of Common Voice (CC0), as its archive unpacks, and its characters.

Corpus: https://commonvoice.mozilla.org/datasets, Ardila et al. 2020.
"""

from __future__ import annotations

import logging
import random
import shutil
from pathlib import Path

from lhotse.cut import Cut

from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.join import write_cuts
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.train_tokens import make_tokens
from asrkd.corpus.transcripts import speaker_of
from asrkd.errors import CorpusError
from asrkd_recipes.corpora import Progress, finish, finished, without_text

# As in ctc.yaml.
TEXT = TextRules(case="lower", punctuation="remove", form="nfkc")
_log = logging.getLogger(__name__)


def prepare(hours: float, corpus_dir: Path | None, data: Path, progress: Progress | None = None) -> None:
    """Write cuts to `data`: `labeled` (speakers of train.tsv, drawn until there are enough hours), `unlabeled` (the other speakers of train.tsv, and
    other.tsv, which nobody has validated; no text), `transcribed` (all of train.tsv), `dev`, `test`; and `characters`, those of `transcribed`.

    Args:
        hours: of the labeled set, about.
        corpus_dir: the folder of a language, with `train.tsv` and `clips`.

    Raises:
        CorpusError: the folder is not given, or not one of Common Voice; train.tsv has not more than the hours.
    """
    if finished(data):
        return
    if corpus_dir is None or not (corpus_dir / "train.tsv").is_file():
        raise CorpusError(
            f"--corpus-dir must be the folder of a language of Common Voice, with train.tsv and clips; {str(corpus_dir)!r} is not. Download it from "
            "https://commonvoice.mozilla.org/datasets (Mozilla asks for consent first)"
        )
    data.mkdir(parents=True, exist_ok=True)
    tables = ("train", "dev", "test", "other") if (corpus_dir / "other.tsv").is_file() else ("train", "dev", "test")
    cuts = {}
    for number, name in enumerate(tables, 1):
        cuts[name] = read_table(corpus_dir / f"{name}.tsv")
        if progress:
            progress(name, number, len(tables))
    labeled = draw_speakers(cuts["train"], hours)
    chosen = {cut.id for cut in labeled}
    unlabeled = [cut for cut in cuts["train"] if cut.id not in chosen] + cuts.get("other", [])
    write_cuts(labeled, data / "labeled.jsonl.gz")
    write_cuts([without_text(cut) for cut in unlabeled], data / "unlabeled.jsonl.gz")
    for name, table in (("transcribed", "train"), ("dev", "dev"), ("test", "test")):
        write_cuts(cuts[table], data / f"{name}.jsonl.gz")
    shutil.rmtree(data / "characters", ignore_errors=True)  # of a preparation that was stopped
    make_tokens(
        [str(data / f"{name}.jsonl.gz") for name in ("transcribed", "dev")],
        str(data / "characters"),
        "characters",
        rules=TEXT,
    )
    finish(data)


def read_table(path: Path) -> list[Cut]:
    """The clips of a table that can be opened; the others are counted in a warning.

    Raises:
        CorpusError: the table is broken, or no clip can be opened.
    """
    rows = list(iterate_json(path))
    refused = [row["unreadable"] for row in rows if "unreadable" in row]
    if len(refused) == len(rows):
        raise CorpusError(f"no clip of {str(path)!r} can be opened; the first: {refused[0]}")
    if refused:
        _log.warning("%d of %d clips of %s are left out; the first: %s", len(refused), len(rows), path.name, refused[0])
    return [to_cut(row) for row in rows if "unreadable" not in row]


def draw_speakers(cuts: list[Cut], hours: float, seed: int = 0) -> list[Cut]:
    """The cuts of speakers in a random order, the same each time, until they have `hours`.

    Raises:
        CorpusError: all together have not more than that, so that nothing would be left without transcripts.
    """
    by_speaker: dict[str, list[Cut]] = {}
    for cut in cuts:
        by_speaker.setdefault(speaker_of(cut) or cut.id, []).append(cut)
    speakers = sorted(by_speaker)
    random.Random(seed).shuffle(speakers)
    drawn: list[Cut] = []
    seconds = 0.0
    for speaker in speakers:
        drawn += by_speaker[speaker]
        seconds += sum(cut.duration for cut in by_speaker[speaker])
        if seconds >= 3600 * hours and len(drawn) < len(cuts):
            return drawn
    raise CorpusError(
        f"train.tsv has {sum(cut.duration for cut in cuts) / 3600:.3f} h of {len(speakers)} speakers, from which {hours:g} h cannot be labeled and others "
        "left without transcripts; take a setting of fewer hours, or a larger language"
    )
