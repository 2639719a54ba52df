"""Stage 0 of the recipe: cuts of speechocean762 (CC BY 4.0), natural read English of learners, half of them children.

Corpus: https://github.com/jimbozhang/speechocean762, with a table of its clips and one of its speakers' parts (see `prepare`).
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from asrkd.corpus.train_tokens import make_tokens
from asrkd.sequence.grammar import SPECIAL, composed_arpa
from asrkd_recipes.corpora import (
    Progress,
    clips_of_table,
    corpus_files,
    finish,
    finished,
    split_noises,
    write_babble,
    write_letter_lexicon,
    write_noisy,
    write_parts,
    write_speeds,
)
from asrkd_recipes.synthetic import sentences_like, write_synthetic

TEST_NOISES = ("pico_kitchen", "dude_miaowing")
TEXT_TEACHER = """model: faster-whisper:tiny.en
text: {case: upper, punctuation: remove, form: nfkc}
"""


def prepare(corpus_dir: Path | None, data: Path, progress: Progress | None = None) -> None:
    """Write cuts to `data`: `labeled` (25 speakers, half an hour), `unlabeled` (88, 2.1 h, no text), `transcribed` (both with text), `dev`, `test`,
    and the last two with noise, `dev_noisy`, `test_noisy`; noise for training, also of untranscribed speakers at once (`noise/babble`); `unlabeled_speed`, the untranscribed speech at other speeds; `synthetic`, sentences like the labeled ones by synthetic voices, no text; `letters` and
    `bpe` (tokens of the labeled texts), `2gram.arpa.gz`, the lexicon `words.txt` of its words in letters, and the text teacher's settings.

    `corpus_dir` holds recordings of 16 kHz; `utts.tsv` with the columns id, path, speaker, text; `split.tsv` with speaker, part (labelled,
    unlabelled, dev, test) and age; a bigram model of words; noise as `split_noises` wants it. Cuts carry `group` (adult, child: 15 or younger).

    Raises:
        CorpusError: the folder is not given, or not the corpus.
        ConfigError: `ASRKD_KOKORO` names a folder that is none of Kokoro's.
        DependencyError: eSpeak NG (`asrkd[demo]`) is not installed.
    """
    if finished(data):
        return
    grammar = "2gram.arpa.gz"
    root = corpus_files(
        corpus_dir, ("utts.tsv", "split.tsv", grammar), what=f"utts.tsv, split.tsv, {grammar} and the recordings"
    )
    speakers = {row["speaker"]: row for row in clips_of_table(root / "split.tsv", ("speaker", "part", "age"))}
    rows = [
        row | speakers[row["speaker"]] for row in clips_of_table(root / "utts.tsv", ("id", "path", "speaker", "text"))
    ]
    write_parts(
        rows,
        root,
        data,
        custom=lambda row: {"group": "child" if int(row["age"]) <= 15 else "adult"},
        progress=progress,
    )
    write_speeds(data, "unlabeled")
    split_noises(root, data, TEST_NOISES)
    write_babble(data, "unlabeled")
    write_noisy(data, "test", progress=progress)
    write_noisy(data, "dev", noises="train", progress=progress)
    labeled = [row["text"] for row in rows if row["part"] == "labelled"]
    write_synthetic(data, sentences_like(labeled), progress=progress)
    with (
        gzip.open(root / grammar, "rt", encoding="utf-8") as lines,
        gzip.open(data / grammar, "wt", encoding="utf-8") as upper,
    ):
        upper.writelines(map(_upper, lines))
    with composed_arpa(data / grammar) as (_, words):
        write_letter_lexicon(data / "words.txt", sorted(set(words) - {*SPECIAL}))
    (data / "text_teacher.yaml").write_text(TEXT_TEACHER, encoding="utf-8")
    for name, kind, size in (("letters", "characters", 500), ("bpe", "bpe", 200)):
        shutil.rmtree(data / name, ignore_errors=True)  # of a start that was stopped
        make_tokens([str(data / "labeled.jsonl.gz")], str(data / name), kind, size=size)
    finish(data)


def _upper(line: str) -> str:
    """A line of the ARPA file with its words in upper case, as the transcripts are; not `<s>` and `</s>`."""
    score, tab, rest = line.partition("\t")
    words, tab_after, backoff = rest.partition("\t")
    return (
        score
        + tab
        + " ".join(word if word.startswith("<") else word.upper() for word in words.split(" "))
        + tab_after
        + backoff
    )
