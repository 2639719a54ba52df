"""Synthetic speech as further untranscribed data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kokoro_helpers import write_folder
from lhotse import CutSet

from asrkd.corpus.audio import read_audio
from asrkd.errors import ConfigError, CorpusError
from asrkd_recipes.demo.espeak import Espeak
from asrkd_recipes.demo.kokoro import VARIABLE, Kokoro
from asrkd_recipes.demo.voices import usual_synthesizer
from asrkd_recipes.synthetic import sentences_like, write_synthetic

RATE = 16000
TEXTS = ("ONE OLD CAT", "AN OLD DOG SAW ONE DOG", "CAT")


@pytest.mark.parametrize("seed", range(20))
def test_sentences_are_walks_over_pairs_of_words(seed: int) -> None:
    pairs = {pair for text in TEXTS for pair in zip(["", *text.split()], [*text.split(), ""], strict=True)}
    draw = sentences_like((*TEXTS, "", " "), longest=6)  # clips without a text say nothing about sentences
    words = draw(np.random.default_rng(seed)).split()
    assert 1 <= len(words) <= 6
    assert set(zip(["", *words[:-1]], words, strict=True)) <= pairs
    assert len(words) == 6 or (words[-1], "") in pairs


def test_without_any_word_there_are_no_sentences() -> None:
    with pytest.raises(CorpusError, match="no text has a word"):
        sentences_like(["", " "])


def test_synthetic_speech_is_untranscribed_and_the_same_again(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    for name in ("a", "b"):
        write_synthetic(
            tmp_path / name, sentences_like(TEXTS), speakers=2, each=2, progress=lambda *done: seen.append(done)
        )
    cuts, again = (list(CutSet.from_file(tmp_path / name / "synthetic.jsonl.gz")) for name in ("a", "b"))
    assert [cut.id for cut in cuts] == ["synthetic00-000", "synthetic00-001", "synthetic01-000", "synthetic01-001"]
    assert len({cut.supervisions[0].speaker for cut in cuts}) == 2
    for cut, other in zip(cuts, again, strict=True):
        samples = read_audio(cut, RATE)
        assert cut.supervisions[0].text is None
        assert 0.3 < cut.duration < 10 and 0.001 < np.sqrt(np.mean(samples**2)) < 0.3
        assert np.array_equal(samples, read_audio(other, RATE))
    assert seen == [("synthetic", number, 4) for number in (1, 2, 3, 4)] * 2


class Halting(Espeak):
    """eSpeak NG, but for some words."""

    def __init__(self, *words: str) -> None:
        self.words, self.said = words, []  # type: ignore[var-annotated]

    def unknown_words(self, text: str) -> list[str]:
        return [word for word in text.split() if word in self.words]

    def speak(self, text: str, *args: Any, **options: Any) -> tuple[np.ndarray, int]:
        self.said.append(text)
        return super().speak(text, *args, **options)


def test_sentences_with_words_that_a_voice_cannot_say_are_drawn_again(tmp_path: Path) -> None:
    halting = Halting("dog")
    write_synthetic(tmp_path, sentences_like(TEXTS), speakers=2, each=4, synthesizer=halting)
    assert len(halting.said) == 8 and not any("dog" in text.split() for text in halting.said)
    with pytest.raises(CorpusError, match="espeak can say none of 1000 sentences, the last one not for the word 'cat'"):
        write_synthetic(tmp_path, sentences_like(["CAT"]), speakers=2, each=4, synthesizer=Halting("cat"))


def test_the_usual_voices_are_those_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert isinstance(usual_synthesizer(), Espeak)
    monkeypatch.setenv(VARIABLE, str(write_folder(tmp_path / "kokoro")))
    assert isinstance(usual_synthesizer(), Kokoro)
    # Its lexicon has two words.
    write_synthetic(tmp_path, sentences_like(["CALL DOOR", "CALL FAN"]), speakers=3, each=2)
    assert len(CutSet.from_file(tmp_path / "synthetic.jsonl.gz")) == 6
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="is not a Kokoro model"):
        usual_synthesizer()
