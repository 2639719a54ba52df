from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from lhotse import MonoCut

from asrkd.corpus.augment import utterance_rng
from asrkd.corpus.cuts import open_cuts
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import ConfigError
from asrkd_recipes.demo.corpus import NOISES, make_corpus, reverberate
from asrkd_recipes.demo.espeak import ACCENTS, Espeak
from asrkd_recipes.demo.speakers import SAMPLING_RATE, draw_speakers
from asrkd_recipes.demo.texts import draw_text, lexicon

SPLITS = ("labeled", "unlabeled", "transcribed", "dev", "test_clean", "test_noisy")
TINY = 0.01  # one utterance of each speaker


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, int, int]]]:
    data = tmp_path_factory.mktemp("demo") / "data"
    calls: list[tuple[str, int, int]] = []
    make_corpus(data, seed=3, scale=TINY, progress=lambda *call: calls.append(call))
    return data, calls


@pytest.fixture(scope="module")
def cuts(corpus: tuple[Path, list[tuple[str, int, int]]]) -> dict[str, list[MonoCut]]:
    return {split: list(open_cuts(corpus[0] / f"{split}.jsonl.gz")) for split in SPLITS}


@pytest.mark.slow
def test_speakers_of_the_splits(cuts: dict[str, list[MonoCut]]) -> None:
    speakers = {split: {cut.supervisions[0].speaker for cut in own} for split, own in cuts.items()}
    assert [len(speakers[split]) for split in SPLITS] == [3, 24, 27, 5, 10, 10]
    assert speakers["transcribed"] == speakers["labeled"] | speakers["unlabeled"]
    assert speakers["test_clean"] == speakers["test_noisy"]
    apart = [speakers[split] for split in ("labeled", "unlabeled", "dev", "test_clean")]
    assert sum(map(len, apart)) == len(set().union(*apart))


def test_transcripts_stay_within_the_lexicon(cuts: dict[str, list[MonoCut]], corpus: tuple[Path, list]) -> None:
    words = Lexicon.read(corpus[0] / "lexicon.txt")
    assert words == lexicon()
    for split, own in cuts.items():
        for cut in own:
            if split == "unlabeled":
                assert cut.supervisions[0].text is None
            else:
                words.encode(cut.supervisions[0].text)


def test_transcribed_holds_the_same_audio(cuts: dict[str, list[MonoCut]]) -> None:
    def sources(own: list[MonoCut]) -> dict[str, str]:
        return {cut.id: cut.recording.sources[0].source for cut in own}

    assert sources(cuts["transcribed"]) == sources(cuts["labeled"]) | sources(cuts["unlabeled"])


def test_durations_are_those_of_the_files(cuts: dict[str, list[MonoCut]]) -> None:
    for own in cuts.values():
        assert len({cut.id for cut in own}) == len(own)
        for cut in own:
            info = soundfile.info(cut.recording.sources[0].source)
            assert (info.samplerate, info.channels) == (SAMPLING_RATE, 1)
            assert info.frames == cut.recording.num_samples == cut.num_samples
            assert cut.supervisions[0].duration == cut.duration


def test_audio_is_speech_with_quiet_edges(cuts: dict[str, list[MonoCut]]) -> None:
    for cut in cuts["dev"] + cuts["labeled"]:
        samples, rate = soundfile.read(cut.recording.sources[0].source)
        edge = int(0.1 * rate)
        for part in (samples[:edge], samples[-edge:]):
            assert 0.0 < np.sqrt(np.mean(part**2)) < 1e-3
        assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.3 and np.abs(samples).max() < 1.0


def test_noisy_has_the_clean_utterances_with_noise(cuts: dict[str, list[MonoCut]]) -> None:
    clean = {cut.id: cut for cut in cuts["test_clean"]}
    for cut in cuts["test_noisy"]:
        own = clean[cut.id.removesuffix("-noisy")]
        assert cut.supervisions[0].text == own.supervisions[0].text
        assert cut.recording.num_samples == own.recording.num_samples
        noisy, _ = soundfile.read(cut.recording.sources[0].source)
        assert np.sqrt(np.mean(noisy[: SAMPLING_RATE // 10] ** 2)) > 1e-3


def test_snr_is_as_declared(cuts: dict[str, list[MonoCut]]) -> None:
    clean = {cut.id: cut for cut in cuts["test_clean"]}
    seen = set()
    for cut in cuts["test_noisy"]:
        speech = soundfile.read(clean[cut.id.removesuffix("-noisy")].recording.sources[0].source)[0].astype(np.float32)
        noisy = soundfile.read(cut.recording.sources[0].source)[0]
        if np.abs(noisy).max() > 0.98:
            continue  # made softer to fit, by a factor that the files do not tell
        rng = utterance_rng(3, 2, cut.id)
        seen.add(reverberated := rng.random() < 0.5)
        assert cut.custom["reverberated"] == reverberated
        if reverberated:
            speech = reverberate(speech, rng)
        snr = 10.0 * np.log10(np.sum(speech.astype(np.float64) ** 2) / np.sum((noisy - speech) ** 2))
        assert 0.0 <= cut.custom["snr"] <= 15.0
        assert cut.custom["snr"] == pytest.approx(snr, abs=0.05)
    assert seen == {True, False}


def test_noise_of_train_and_test_differs(corpus: tuple[Path, list]) -> None:
    train, test = (sorted((corpus[0] / "noise" / part).glob("*.flac")) for part in ("train", "test"))
    assert [file.name for file in train] == [file.name for file in test] and len(train) == 8
    assert {file.stem[:-1] for file in train} == set(NOISES)
    for one, other in zip(train, test, strict=True):
        a, b = soundfile.read(one)[0], soundfile.read(other)[0]
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.2


def test_progress_counts_up_to_each_split(corpus: tuple[Path, list[tuple[str, int, int]]]) -> None:
    calls = [call for call in corpus[1] if call[0] == "dev"]
    assert calls == [("dev", n, 5) for n in range(1, 6)]


def test_a_second_call_changes_nothing_and_another_seed_is_refused(corpus: tuple[Path, list]) -> None:
    data = corpus[0]
    before = {file: file.stat().st_mtime_ns for file in data.rglob("*")}
    make_corpus(data, seed=3, scale=TINY)
    assert {file: file.stat().st_mtime_ns for file in data.rglob("*")} == before
    with pytest.raises(ConfigError, match="'seed': 4"):
        make_corpus(data, seed=4, scale=TINY)


@pytest.mark.slow
def test_an_interrupted_corpus_is_finished_with_the_same_samples(corpus: tuple[Path, list]) -> None:
    data = corpus[0]
    files = sorted(data.glob("audio/*/*.flac")) + sorted(data.glob("noise/*/*.flac"))
    before = {file: file.read_bytes() for file in files}
    (data / "prepared").unlink()
    files[0].unlink()
    make_corpus(data, seed=3, scale=TINY)
    assert {file: file.read_bytes() for file in files} == before
    assert json.loads((data / "prepared").read_text())["seed"] == 3
    assert not [file for file in data.rglob(".*")]


@pytest.mark.slow
def test_counts_replace_those_of_a_split(tmp_path: Path) -> None:
    counts = {"labeled": (2, 3), "unlabeled": (1, 1), "dev": (1, 1), "test": (1, 2)}
    make_corpus(tmp_path, seed=5, counts=counts)
    found = {}
    for split in SPLITS:
        own = [cut.supervisions[0].speaker for cut in open_cuts(tmp_path / f"{split}.jsonl.gz")]
        found[split] = (len(set(own)), len(own))
    expected = dict(zip(SPLITS, [(2, 6), (1, 1), (3, 7), (1, 1), (1, 2), (1, 2)], strict=True))
    assert found == expected
    with pytest.raises(ConfigError, match="sizes"):
        make_corpus(tmp_path, seed=5, counts=counts | {"dev": (1, 2)})


@pytest.mark.parametrize(
    ("counts", "quoted"),
    [({"train": (1, 1)}, "'train'"), ({"dev": (0, 4)}, r"\(0, 4\)"), ({"dev": (2, 0)}, r"\(2, 0\)")],
)
def test_counts_that_cannot_be(counts: dict[str, tuple[int, int]], quoted: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=quoted):
        make_corpus(tmp_path, counts=counts)
    assert not list(tmp_path.iterdir())


@given(st.integers(0, 2**32))
def test_any_text_can_be_spelled(seed: int) -> None:
    text = draw_text(np.random.default_rng(seed))
    assert lexicon().encode(text) and len(lexicon().words) <= 42


def test_every_word_is_said() -> None:
    rng = np.random.default_rng(0)
    assert {word for _ in range(2000) for word in draw_text(rng).split()} == set(lexicon().words)


@given(st.integers(0, 2**32))
def test_no_voice_is_drawn_twice(seed: int) -> None:
    groups = draw_speakers(Espeak(), {"labeled": 3, "a": 30, "b": 20}, np.random.default_rng(seed), narrow="labeled")
    voices = [speaker.voice for own in groups.values() for speaker in own]
    assert len(voices) == len(set(voices)) == 53
    assert {voice.split("+")[0] for voice in voices[:3]} == {ACCENTS[0]}
    assert {speaker.voice.split("+")[0] for speaker in groups["a"]} == set(ACCENTS)
    assert all(0.9 <= speaker.tract <= 1.1 for own in groups.values() for speaker in own)


class FewVoices:
    """As many as some models have, which never speak here."""

    name = "few"

    def __init__(self, *counts: int) -> None:
        self.voices = {f"accent{n}": [f"{n}-{i}" for i in range(count)] for n, count in enumerate(counts)}

    def unknown_words(self, text: str) -> list[str]:
        raise AssertionError

    def speak(self, text: str, voice: str, *, rate: int, pitch: int, pitch_range: int) -> tuple[np.ndarray, int]:
        raise AssertionError


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=3),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.booleans(),
)
def test_groups_share_no_voice_however_few_there_are(available: list[int], sizes: list[int], narrow: bool) -> None:
    counts = {f"group{n}": size for n, size in enumerate(sizes)}
    draw = partial(draw_speakers, FewVoices(*available), counts, np.random.default_rng(0))
    if len(counts) > sum(available):
        with pytest.raises(ConfigError, match=f"few has {sum(available)} voices of English, but the demo needs"):
            draw()
        return
    groups = draw(narrow="group0") if narrow else draw()
    assert {group: len(own) for group, own in groups.items()} == counts
    voices = [{speaker.voice for speaker in own} for own in groups.values()]
    assert sum(map(len, voices)) == len(set().union(*voices)) <= sum(available)
    if narrow:
        assert {speaker.voice.split("-")[0] for speaker in groups["group0"]} == {"0"}
    if sum(sizes) <= sum(available) and not narrow:
        assert sum(map(len, voices)) == sum(sizes)


def test_reverberation_is_causal_and_keeps_the_direct_sound() -> None:
    click = np.zeros(8000, dtype=np.float32)
    click[1000] = 1.0
    wet = reverberate(click, np.random.default_rng(0))
    assert len(wet) == len(click)
    assert np.abs(wet[:1000]).max() < 1e-5 and wet[1000] == pytest.approx(1.0, abs=1e-4)
    early, late = (np.sum(wet[a:b] ** 2) for a, b in ((1001, 2000), (5000, 6000)))
    assert early > 10 * late > 0
