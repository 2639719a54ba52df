"""The settings of a text teacher: a YAML file, `text:FILE.yaml`, or their defaults."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from asrkd.config import check, setting
from asrkd.corpus.text_flags import FlagLimits
from asrkd.corpus.text_rules import TextRules
from asrkd.text_teachers.sentences import Sentences

_sentences = functools.lru_cache(maxsize=4)(Sentences.read)


@dataclass
class TextSettings:
    """How a text teacher decodes, and what is made of its text."""

    model: str = setting()
    """The model: `transformers:PATH_OR_NAME`, `faster-whisper:PATH_OR_NAME` or `python:package.module:factory`."""
    language: str = setting("")
    """Of the speech, as the model names it (`en`); empty to let a multilingual model find out for each utterance."""
    task: str = setting("transcribe", one_of=("transcribe", "translate"))
    """`transcribe`, or `translate` into English where the model does that."""
    num_beams: int = setting(1, at_least=1)
    """Width of the beam; 1 is greedy."""
    n_best: int = setting(1, at_least=1)
    """Hypotheses to keep, at most `num_beams`."""
    max_tokens: int = setting(0, at_least=0)
    """Most tokens of a text; 0 for the model's own limit."""
    suppress_numerals: bool = False
    """Numbers and signs such as `%` are written as words, as they are said: tokens with digits are not considered."""
    word_times: bool = False
    """Store times of words, where the model has them; takes longer."""
    max_seconds: float = setting(30.0, above=0)
    """Longest cut; a longer one goes to quarantine. A model with a window of its own takes no more than that."""
    batch_size: int = setting(16, at_least=1)
    """Utterances in a batch, of models that read windows of one length; others read one at a time."""
    compute_type: str = setting("default")
    """Number type: of torch (`float32`, `float16`, `bfloat16`) or of CTranslate2 (`int8`, ...); `default` is `float32` in torch, and the file's own in CTranslate2."""
    text: TextRules = setting(lambda: TextRules(case="lower", punctuation="remove", form="nfkc"))
    """Normalization of the column `text`; `text_raw` has the text before."""
    sentences: str = ""
    """Grammar of all that can be said, `NAME.fst.txt` (docs/decoding.md): the column `text` is the nearest of its sentences, unless nothing was written."""
    flags: FlagLimits = setting(FlagLimits)
    """Limits beyond which a text is flagged."""

    def __post_init__(self) -> None:
        check(self)

    def written(self, raw: str) -> str:
        """The column `text`.

        Raises:
            CorpusError: the grammar cannot be used.
        """
        return self.settled(raw)[0]

    def settled(self, raw: str) -> tuple[str, bool]:
        """The column `text`, and whether another sentence of the grammar is as near to what was written.

        Raises:
            CorpusError: the grammar cannot be used.
        """
        text = self.text(raw)
        if not self.sentences or not text.strip():
            return text, False
        nearest = _sentences(self.sentences).nearest(text)
        return nearest.sentence, nearest.is_ambiguous

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.n_best > self.num_beams:
            yield (
                "n_best",
                f"is {self.n_best}, but a beam of {self.num_beams} has no more than {self.num_beams}; raise num_beams",
            )
