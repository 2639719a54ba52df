"""Stage 0 of the recipe: cuts of the coffee orders of Picovoice's speech-to-intent benchmark (Apache-2.0), natural English of 54 words.

Corpus: https://github.com/Picovoice/speech-to-intent-benchmark, with a table of texts, speakers and parts (see `prepare`).
"""

from __future__ import annotations

import string
from pathlib import Path

from orders import Grammar, spelled

from asrkd.corpus.characters import WORD_BEGIN
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.topology import BLANK
from asrkd_recipes.corpora import (
    Progress,
    clips_of_table,
    corpus_files,
    finish,
    finished,
    split_noises,
    write_letter_lexicon,
    write_noisy,
    write_parts,
    write_speeds,
)
from asrkd_recipes.synthetic import write_synthetic

# CMUdict's pronunciations (BSD); `a` and `an` are one word, which the texts do not distinguish.
LEXICON = Path(__file__).with_name("lexicon.txt")
TEST_NOISES = ("pico_kitchen", "dude_miaowing")
# All letters, also those of no order, so that models of other English speech have the same.
LETTERS = [BLANK, WORD_BEGIN, "'", *string.ascii_uppercase]

# Whisper writes freely; its text becomes the nearest order.
TEXT_TEACHER = """model: faster-whisper:tiny.en
suppress_numerals: true
text: {{case: upper, punctuation: remove, form: nfkc}}
sentences: {sentences}
"""


def prepare(corpus_dir: Path | None, data: Path, progress: Progress | None = None) -> None:
    """Write cuts to `data`: `labeled` (13 minutes), `unlabeled` (35, no text), `transcribed` (both with text), `dev`, `test`, and
    the last two with noise, `dev_noisy`, `test_noisy`; `unlabeled_speed`, the untranscribed speech at other speeds; `synthetic`, orders of the grammar by synthetic voices, no text; the lexicons `lexicon.txt` (phones) and `words.txt` (letters), the tokens `letters`, the
    grammar `orders.fst.txt` and the text teacher's settings.

    `corpus_dir` holds recordings of 16 kHz, `grammar.yaml` and `utts.tsv`, a table with the columns id, path, speaker, text, text_confidence and part
    (labelled, unlabelled, dev, test); noise as `split_noises` wants it. Upstream gives slots, not texts; dev and test leave out texts of low confidence.

    Raises:
        CorpusError: the folder is not given, or not the corpus.
        ConfigError: `ASRKD_KOKORO` names a folder that is none of Kokoro's.
        DependencyError: eSpeak NG (`asrkd[demo]`) is not installed.
    """
    if finished(data):
        return
    root = corpus_files(corpus_dir, ("utts.tsv", "grammar.yaml"), what="utts.tsv, grammar.yaml and the recordings")
    rows = clips_of_table(root / "utts.tsv", ("id", "path", "speaker", "text", "text_confidence", "part"))
    rows = [row | {"text": " ".join(spelled(row["text"]))} for row in rows]
    tested = [row for row in rows if row["part"] not in ("dev", "test") or row["text_confidence"] != "low"]
    write_parts(tested, root, data, progress=progress)
    write_speeds(data, "unlabeled")
    split_noises(root, data, TEST_NOISES)
    write_noisy(data, "test", progress=progress)
    write_noisy(data, "dev", noises="train", progress=progress)
    Lexicon.read(LEXICON).write(data / "lexicon.txt")
    grammar = Grammar.read(root / "grammar.yaml")
    write_synthetic(data, grammar.sentence, progress=progress)
    (data / "orders.fst.txt").write_text(grammar.text(), encoding="utf-8")
    write_letter_lexicon(data / "words.txt", grammar.words)
    (data / "letters").mkdir(exist_ok=True)
    (data / "letters/tokens.txt").write_text(
        "".join(f"{name} {number}\n" for number, name in enumerate(LETTERS)), encoding="utf-8"
    )
    (data / "text_teacher.yaml").write_text(TEXT_TEACHER.format(sentences=data / "orders.fst.txt"), encoding="utf-8")
    finish(data)
