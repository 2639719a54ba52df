"""The beam search against every path, every sentence, and the definition of back-off, one by one."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from graph_oracles import ctc_reading, random_arpa

from asrkd.corpus.inventory import Inventory
from asrkd.decoding import beam
from asrkd.decoding.beam import BeamDecoder, BeamSettings
from asrkd.errors import ConfigError, CorpusError, MismatchError

pytest.importorskip("flashlight.lib.text.decoder", reason="flashlight-text is not installed")
WIDE = BeamSettings(beam_size=10**5, token_beam=100, beam=1e9)
Vocabulary = dict[str, list[tuple[str, ...]]]


class Arpa:
    """Back-off by its definition (Katz 1987), from the file."""

    def __init__(self, path: Path) -> None:
        self.grams: dict[tuple[str, ...], tuple[float, float]] = {}
        for line in path.read_text().splitlines():
            fields = line.split("\t")
            if len(fields) > 1:
                self.grams[tuple(fields[1].split())] = (float(fields[0]), float(fields[2]) if len(fields) > 2 else 0.0)

    def score(self, history: tuple[str, ...], word: str) -> float:
        if (*history, word) in self.grams:
            return math.log(10) * self.grams[(*history, word)][0]
        return math.log(10) * self.grams.get(history, (0.0, 0.0))[1] + self.score(history[1:], word)

    def sentence(self, words: tuple[str, ...]) -> float:
        whole = ("<s>", *words, "</s>")
        return sum(self.score(whole[max(0, n - 2) : n], whole[n]) for n in range(1, len(whole)))


def cuts(tokens: tuple[str, ...], vocabulary: Vocabulary) -> Iterator[tuple[str, ...]]:
    """The words of every way to cut tokens into pronunciations."""
    if not tokens:
        yield ()
    for word, spellings in vocabulary.items():
        for spelling in set(spellings):
            if tokens[: len(spelling)] == spelling:
                for rest in cuts(tokens[len(spelling) :], vocabulary):
                    yield (word, *rest)


def every_sentence(
    scores: np.ndarray, inventory: Inventory, vocabulary: Vocabulary, arpa: Arpa | None, settings: BeamSettings
) -> dict[tuple[str, ...], float]:
    """The score of each sentence: the sum over all paths of classes, and over all ways to cut what they read into its words."""
    acoustic: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        tokens = ctc_reading(path)
        score = float(scores[range(len(scores)), list(path)].sum())
        acoustic[tokens] = np.logaddexp(acoustic.get(tokens, -np.inf), score)
    sums: dict[tuple[str, ...], float] = {}
    for tokens, score in acoustic.items():
        for words in cuts(tuple(inventory.units[token] for token in tokens), vocabulary):
            sums[words] = np.logaddexp(sums.get(words, -np.inf), score)
    return {
        words: score + settings.word_score * len(words) + (settings.lm_weight * arpa.sentence(words) if arpa else 0.0)
        for words, score in sums.items()
    }


def random_case(seed: int, folder: Path) -> tuple[np.ndarray, Inventory, Vocabulary, Path | None, BeamSettings]:
    rng = random.Random(seed)
    tokens = tuple("abcd"[: rng.randint(1, 3)])
    names = [f"w{n}" for n in range(rng.randint(1, 5))]
    vocabulary = {
        name: [tuple(rng.choice(tokens) for _ in range(rng.choice([1, 1, 2, 3]))) for _ in range(rng.choice([1, 1, 2]))]
        for name in names
    }
    if rng.random() < 0.3:
        names, vocabulary = list(tokens), {token: [(token,)] for token in tokens}
    arpa = folder / "lm.arpa" if rng.random() < 0.7 else None
    if arpa:
        random_arpa(rng, names, arpa)
    settings = BeamSettings(10**5, 100, 1e9, rng.choice([0.3, 1.0, 1.7]), rng.choice([0.0, -0.7, 0.9]))
    length = rng.randint(1, 5)
    scores = np.random.default_rng(seed).normal(0, 2, (length, 1 + len(tokens))).astype(np.float32)
    return scores, Inventory(("<blk>", *tokens), "ctc"), vocabulary, arpa, settings


@pytest.mark.slow
def test_it_finds_what_trying_every_sentence_finds(tmp_path: Path) -> None:
    for seed in range(200):
        scores, inventory, vocabulary, arpa, settings = random_case(seed, tmp_path)
        expected = every_sentence(scores, inventory, vocabulary, Arpa(arpa) if arpa else None, settings)
        decoder = BeamDecoder(inventory, vocabulary, str(arpa) if arpa else None, settings)
        found = decoder.decode(scores, 3)
        best = sorted(expected.values(), reverse=True)[:3]
        assert [one.score for one in found] == pytest.approx(best, abs=1e-3), seed
        assert [expected[one.words] for one in found] == pytest.approx(best, abs=1e-3), seed
        assert all(one.complete for one in found)
        reading = tuple(inventory.units[token] for token in ctc_reading(found[0].classes.tolist()))
        assert found[0].words in set(cuts(reading, vocabulary)), seed


ONE = {"x": [("a",)], "y": [("a", "b")]}
INVENTORY = Inventory(("<blk>", "a", "b"), "ctc")


def test_a_sentence_that_the_end_cuts_off_is_told() -> None:
    decoder = BeamDecoder(INVENTORY, {"y": [("a", "b")]}, settings=BeamSettings(beam_size=1))
    scores = np.log(np.array([[0.01, 0.98, 0.01], [0.98, 0.01, 0.01]], np.float32))
    found = decoder.decode(scores)[0]
    assert (found.words, found.complete) == ((), False) and found.score == pytest.approx(2 * math.log(0.98), abs=1e-3)


def test_no_frames_are_no_words() -> None:
    assert BeamDecoder(INVENTORY, ONE).decode(np.zeros((0, 3), np.float32))[0].words == ()


def test_what_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="'hmm', which has no blank"):
        BeamDecoder(Inventory(("SIL", "a_0"), "hmm"), {"x": [("a",)]})
    with pytest.raises(ConfigError, match="keeps 0 entries"):
        BeamSettings(beam_size=0)
    with pytest.raises(CorpusError, match="phone 'q' is not in the inventory"):
        BeamDecoder(INVENTORY, {"x": [("q",)]})
    # Tokens that begin and end words count twice.
    many = [f"t{n}" for n in range(beam.MAX_COLUMNS // 2 + 1)]
    inventory, words = Inventory(("<blk>", *many), "ctc"), {token: [(token, token)] for token in many}
    with pytest.raises(ConfigError, match="8193 of them at the beginning and at the end of words, are 16387 columns"):
        BeamDecoder(inventory, words)
    decoder = BeamDecoder(INVENTORY, ONE)
    with pytest.raises(MismatchError, match="gives 4 classes, the search was made for 3"):
        decoder.decode(np.zeros((1, 4), np.float32))
    with pytest.raises(CorpusError, match="NaN"):
        decoder.decode(np.full((1, 3), np.nan, np.float32))
    path = tmp_path / "lm.arpa"
    for content, message in [
        ("hello\n", "no line .data., so it is not an ARPA file"),
        ("\\data\\\nngram 1=1\n\n\\1-grams:\nx y\n", "cannot be read by KenLM"),
        ("\\data\\\nngram 1=1\n\n\\1-grams:\n-1\tother\n\n\\end\\\n", "none of the lexicon's .* words, but 'other'"),
        ("", "not an ARPA file"),
    ]:
        path.write_text(content)
        with pytest.raises(CorpusError, match=message):
            BeamDecoder(INVENTORY, ONE, str(path))
    with pytest.raises(CorpusError, match="cannot be read: No such file"):
        BeamDecoder(INVENTORY, ONE, str(tmp_path / "none.arpa"))
    (tmp_path / "cut.bin").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
    with pytest.raises(CorpusError, match="cannot be read by KenLM"):
        BeamDecoder(INVENTORY, ONE, str(tmp_path / "cut.bin"))
