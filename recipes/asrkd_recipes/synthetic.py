"""Synthetic speech as further untranscribed data (data-free distillation): sentences of a recipe, spoken by synthetic voices, which the teacher labels like recordings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from asrkd.corpus.audio import write_audio
from asrkd.corpus.augment import utterance_rng
from asrkd.corpus.join import write_cuts
from asrkd.errors import CorpusError
from asrkd_recipes.corpora import Progress, clip
from asrkd_recipes.demo.corpus import with_edges
from asrkd_recipes.demo.speakers import SAMPLING_RATE, Synthesizer, draw_speakers
from asrkd_recipes.demo.voices import usual_synthesizer

NAME = "synthetic"
# Draws of sentences before it is said that the voices can say none of them.
TRIES = 1000
Sentence = Callable[[np.random.Generator], str]


def write_synthetic(
    data: Path,
    sentence: Sentence,
    *,
    speakers: int = 48,
    each: int = 20,
    seed: int = 0,
    synthesizer: Synthesizer | None = None,
    progress: Progress | None = None,
) -> None:
    """Write cuts without text, `data/synthetic.jsonl.gz`, and their audio at 16 kHz.

    Args:
        sentence: draws what is said; a sentence with a word that the synthesizer cannot say is drawn again.
        speakers, each: voices of several accents, and sentences of each.
        synthesizer: of the voices; by default Kokoro where `ASRKD_KOKORO` names its folder, eSpeak NG elsewhere.

    Raises:
        ConfigError: the folder is none of Kokoro's.
        CorpusError: the synthesizer can say no sentence.
        DependencyError: the synthesizer is missing.
    """
    synthesizer = synthesizer or usual_synthesizer()
    voices = draw_speakers(synthesizer, {NAME: speakers}, utterance_rng(seed, 0, "speakers"))[NAME]
    cuts = []
    for voice in voices:
        for number in range(each):
            key = f"{voice.name}-{number:03d}"
            rng = utterance_rng(seed, 1, key)
            file = data / "audio" / NAME / f"{key}.flac"
            write_audio(file, with_edges(voice.say(_sayable(sentence, synthesizer, rng)), rng), SAMPLING_RATE)
            cuts.append(clip(key, file, voice.name))
            if progress:
                progress(NAME, len(cuts), speakers * each)
    write_cuts(cuts, data / f"{NAME}.jsonl.gz")


def _sayable(sentence: Sentence, synthesizer: Synthesizer, rng: np.random.Generator) -> str:
    for _ in range(TRIES):
        text = sentence(rng).lower()
        unknown = synthesizer.unknown_words(text)
        if not unknown:
            return text
    raise CorpusError(
        f"{synthesizer.name} can say none of {TRIES} sentences, the last one not for the word {unknown[0]!r}; take other voices, or give it pronunciations"
    )


def sentences_like(texts: Iterable[str], *, longest: int = 20) -> Sentence:
    """Draws sentences of a bigram model without smoothing, estimated from `texts`; one without words counts for nothing.

    Raises:
        CorpusError: no text has a word.
    """
    after: dict[str, list[str]] = defaultdict(list)
    for words in filter(None, (text.split() for text in texts)):
        for word, following in zip(["", *words], [*words, ""], strict=True):
            after[word].append(following)
    if not after:
        raise CorpusError("no text has a word, so there are no sentences to draw others from; give transcripts")

    def draw(rng: np.random.Generator) -> str:
        words: list[str] = []
        while len(words) < longest:
            options = after[words[-1] if words else ""]
            if not (word := options[int(rng.integers(len(options)))]):
                break
            words.append(word)
        return " ".join(words)

    return draw
