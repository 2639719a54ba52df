from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_helpers import PHONES, RATE, Said, phone, room, sayings

from asrkd.alignment.flat_start import equal_states, flat_start
from asrkd.alignment.phone_model import PhoneModel
from asrkd.alignment.summary import ODDITY, deviations
from asrkd.errors import CorpusError

SHIFT, FIRST = 160, 120
TRAIN, NEW = sayings(60), sayings(100, seed=1)


@pytest.fixture(scope="module")
def model() -> PhoneModel:
    return flat_start([said.cepstra for said in TRAIN], [said.graph() for said in TRAIN], PHONES, RATE)


def boundaries(model: PhoneModel, said: Said) -> np.ndarray:
    """(words, 2) starts and ends in samples."""
    graph = said.graph()
    words = graph.words[model.align([said.cepstra], [graph])[0].nodes]
    found = [np.flatnonzero(words == number) for number in range(len(said.words))]
    return np.array([(own[0] * SHIFT + FIRST, (own[-1] + 1) * SHIFT + FIRST) for own in found])


def test_words_of_new_utterances_are_found_from_nothing(model: PhoneModel) -> None:
    errors = np.concatenate([(boundaries(model, said) - said.words).ravel() for said in NEW[:40]]) / RATE
    # A window of 25 ms is louder than the room as soon as it touches a word.
    assert np.mean(np.abs(errors) <= 0.03) > 0.85 and np.mean(np.abs(errors) <= 0.06) > 0.98
    assert abs(np.mean(errors)) < 0.01
    # Where the flat start begins it knows much less.
    said = NEW[0]
    states, graph = equal_states(said.cepstra.spoken, said.graph()), said.graph()
    right = model.align([said.cepstra], [graph])[0].states
    assert np.mean(states == right) < 0.8


def test_silence_is_found_at_both_ends_and_not_where_there_is_none(model: PhoneModel) -> None:
    for said in NEW[:40]:
        graph = said.graph()
        quiet = graph.words[model.align([said.cepstra], [graph])[0].nodes] < 0
        assert quiet[0] and quiet[-1]
        true = 1 - sum(end - start for start, end in said.words) / len(said.samples)
        assert abs(quiet.mean() - true) < 0.1


@settings(max_examples=15, deadline=None)
@given(
    number=st.integers(0, len(NEW) - 1),
    place=st.integers(0, 6),
    seconds=st.floats(0.05, 20),
    digital=st.booleans(),
)
def test_more_silence_moves_no_boundary(
    model: PhoneModel, number: int, place: int, seconds: float, digital: bool
) -> None:
    said, rng = NEW[number], np.random.default_rng(number)
    # Before a word, or behind the last.
    edges = [0, *(end for _, end in said.words[:-1]), len(said.samples)]
    word = place % len(edges)
    at, size = edges[word], int(seconds * RATE)
    silence = np.zeros(size) if digital else room(size, rng) + room(size, rng)
    longer = Said(np.concatenate([said.samples[:at], silence, said.samples[at:]]), said.text, said.words)
    before, after = boundaries(model, said), boundaries(model, longer)
    moved = after - before - size * (np.arange(len(before)) >= word)[:, None]
    # Where a word meets silence in place of a word, windows and slopes reach into it: two frames of 30 ms. All else stays.
    beside = np.zeros(moved.shape, dtype=bool)
    if word:
        beside[word - 1, 1] = True
    beside[word : word + 1, 0] = True
    assert np.abs(moved[beside]).max(initial=0) <= 5 * SHIFT and np.abs(moved[~beside]).max() <= 2 * SHIFT


@pytest.mark.parametrize("name", ["m", "a", "u"])
def test_a_quiet_sound_of_a_phone_behind_the_last_word_is_no_word(model: PhoneModel, name: str) -> None:
    rng = np.random.default_rng(5)
    for said in NEW[:10]:
        # A hum 30 dB and more below the words: it looks like the phone, not like the room.
        hum = phone(name, rng, 4000)
        hum *= 0.004 / hum.std()
        longer = Said(np.concatenate([said.samples, hum]), said.text, said.words)
        assert boundaries(model, longer)[-1, 1] - said.words[-1][1] <= 0.25 * RATE


def test_a_wrong_transcript_among_a_hundred_is_found(model: PhoneModel) -> None:
    texts = [said.text for said in NEW]
    texts[37] = "us seam me us seam"
    assert texts[37] != NEW[37].text
    graphs = [said.graph(text) for said, text in zip(NEW, texts, strict=True)]
    paths = model.align([said.cepstra for said in NEW], graphs)
    found = model.with_usual([path.gain for path in paths])
    odd = [number for number, path in enumerate(paths) if deviations(path.gain, found.usual) > ODDITY]
    assert odd == [37]


@pytest.mark.slow
def test_the_model_is_the_same_when_it_is_made_again_and_read_again(model: PhoneModel, tmp_path: Path) -> None:
    again = flat_start([said.cepstra for said in TRAIN], [said.graph() for said in TRAIN], PHONES, RATE)
    again.save(tmp_path / "aligner.npz")
    read = PhoneModel.load(tmp_path / "aligner.npz")
    assert read.phones == model.phones and read.usual == model.usual
    for said in NEW[:5]:
        np.testing.assert_array_equal(boundaries(read, said), boundaries(model, said))


def test_what_is_not_an_aligner_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickled.npz", facts=np.array({"format": 1}, dtype=object), allow_pickle=True)
    np.savez(tmp_path / "other.npz", facts=np.array('{"format": "other"}'))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("pickled", "other", "text", "missing"):
        with pytest.raises(CorpusError, match=f"aligner '.*{name}.npz' cannot be read"):
            PhoneModel.load(tmp_path / f"{name}.npz")
    with pytest.raises(CorpusError, match="no transcribed utterances"):
        flat_start([], [], PHONES, RATE)
