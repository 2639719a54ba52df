"""What recipes prepare: sets of cuts by part, noise that no test shares with training, noisy copies of test sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet

from asrkd.corpus.audio import read_audio, write_audio
from asrkd.corpus.augment import load_noises
from asrkd.errors import CorpusError
from asrkd_recipes.corpora import clips_of_table, split_noises, write_babble, write_noisy, write_parts, write_speeds

RATE = 16000


@pytest.fixture
def corpus_dir(tmp_path: Path) -> Path:
    root, rng = tmp_path / "corpus", np.random.default_rng(0)
    rows = ["id\tpath\tspeaker\ttext\tpart\tage"]
    for number, part in enumerate(("train", "train", "test", "test")):
        samples = (0.1 * rng.normal(size=RATE)).astype(np.float32)
        write_audio(root / f"{number}.flac", samples, RATE)
        # The last one has no text.
        rows.append(f"u{number}\t{number}.flac\ts{number}\t{'A WORD' if number < 3 else ''}\t{part}\t{9 * number}")
    (root / "utts.tsv").write_text("\n".join(rows) + "\n")
    for name in ("hum", "rain", "rir_room"):
        write_audio(tmp_path / "noise/audio" / f"{name}.flac", (0.05 * rng.normal(size=RATE)).astype(np.float32), RATE)
    return root


def test_sets_noises_and_noisy_tests(corpus_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = clips_of_table(corpus_dir / "utts.tsv", ("id", "path", "text"))
    parts = {"unlabeled": ("train",), "transcribed": ("train",), "test": ("test",)}
    write_parts(
        rows, corpus_dir, data, parts=parts, custom=lambda row: {"group": "child" if int(row["age"]) < 16 else "adult"}
    )
    sets = {name: list(CutSet.from_file(data / f"{name}.jsonl.gz")) for name in parts}
    assert {name: [cut.id for cut in cuts] for name, cuts in sets.items()} == {
        "unlabeled": ["u0", "u1"], "transcribed": ["u0", "u1"], "test": ["u2"],
    }  # fmt: skip
    assert all(cut.supervisions[0].text is None for cut in sets["unlabeled"])
    assert sets["test"][0].supervisions[0].text == "A WORD" and sets["test"][0].custom == {"group": "adult"}
    split_noises(corpus_dir, data, ("rain",))
    noises = {part: sorted(path.stem for path in (data / "noise" / part).iterdir()) for part in ("train", "test")}
    assert noises == {"train": ["hum", "pink"], "test": ["rain"]}
    write_noisy(data, "test", snr=(5.0, 5.0))
    (noisy,) = CutSet.from_file(data / "test_noisy.jsonl.gz")
    clean, mixed = read_audio(sets["test"][0], RATE), read_audio(noisy, RATE)
    snr = 10 * np.log10(np.sum(clean**2) / np.sum((mixed - clean) ** 2))
    assert snr == pytest.approx(5.0, abs=0.1)
    write_noisy(data, "test", noises="train")
    (other,) = CutSet.from_file(data / "test_noisy.jsonl.gz")
    assert not np.allclose(read_audio(other, RATE), mixed, atol=1e-3)
    assert (noisy.id, noisy.supervisions[0].text, noisy.custom) == ("u2", "A WORD", {"group": "adult"})


def test_speech_at_other_speeds(corpus_dir: Path, tmp_path: Path) -> None:
    rows = clips_of_table(corpus_dir / "utts.tsv", ("id", "path", "text"))
    write_parts(rows, corpus_dir, tmp_path, parts={"unlabeled": ("train",)})
    write_speeds(tmp_path, "unlabeled")
    cuts = list(CutSet.from_file(tmp_path / "unlabeled_speed.jsonl.gz"))
    assert [cut.id for cut in cuts] == ["u0_sp0.9", "u1_sp0.9", "u0_sp1.1", "u1_sp1.1"]
    assert all(cut.supervisions[0].text is None and cut.supervisions[0].speaker for cut in cuts)
    for cut, speed in zip(cuts, (0.9, 0.9, 1.1, 1.1), strict=True):
        assert len(read_audio(cut, RATE)) == pytest.approx(RATE / speed, abs=1)


def test_babble_is_the_speakers_of_a_set_equally_loud(tmp_path: Path) -> None:
    # A tone for each speaker, each of another loudness.
    pitches = {f"s{n}": 200 + 100 * n for n in range(9)}
    rows = [
        {"id": f"{who}-{n}", "speaker": who, "path": f"{who}-{n}.flac", "text": "", "part": "all"}
        for who in pitches
        for n in (0, 1)
    ]
    time = np.arange(RATE) / RATE
    for row in rows:
        tone = np.sin(2 * np.pi * pitches[row["speaker"]] * time) * (0.1 + 0.05 * int(row["speaker"][1:]))
        write_audio(tmp_path / row["path"], tone.astype(np.float32), RATE)
    write_parts(rows, tmp_path, tmp_path, parts={"unlabeled": ("all",)})
    write_babble(tmp_path, "unlabeled", files=6, seconds=3.0)
    noises = load_noises(tmp_path / "noise/babble", RATE)
    heard = set()
    for noise in noises:
        assert len(noise) == 3 * RATE
        levels = np.array(
            [
                abs(np.mean(noise * np.exp(-2j * np.pi * pitch * np.arange(len(noise)) / RATE)))
                for pitch in pitches.values()
            ]
        )
        loud = levels > 0.5 * levels.max()
        assert 3 <= loud.sum() <= 7 and levels[~loud].max() < 0.05 * levels.max()
        assert levels[loud] == pytest.approx(levels.max(), rel=0.05)
        heard.add(tuple(loud))
    assert len(noises) == 6 and len(heard) > 1
    write_babble(tmp_path, "unlabeled", files=6, seconds=3.0)
    assert all(map(np.array_equal, noises, load_noises(tmp_path / "noise/babble", RATE)))


def test_what_is_no_corpus_is_said(corpus_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has no column 'sex'"):
        clips_of_table(corpus_dir / "utts.tsv", ("id", "sex"))
    with pytest.raises(CorpusError, match="has no noise for the test sets; the tests take kitchen"):
        split_noises(corpus_dir, tmp_path / "data", ("kitchen",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="put background recordings there"):
        split_noises(tmp_path / "empty" / "corpus", tmp_path / "data", ("rain",))
