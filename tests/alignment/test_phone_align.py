from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from speech_helpers import LEXICON, RATE, sayings

from asrkd.alignment.align_store import align_store
from asrkd.corpus.audio import write_audio
from asrkd.errors import ConfigError, MismatchError
from asrkd.labeling import reading
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`said.tsv`: 40 utterances, the last of zeros, the one before with another's transcript; `lexicon.txt`; stores with audio and features."""
    folder = tmp_path_factory.mktemp("said")
    LEXICON.write(folder / "lexicon.txt")
    lines = ["audio\ttext\n"]
    for number, said in enumerate(sayings(40)):
        samples, text = said.samples, said.text
        if number == 38:
            text = "us us us" if text != "us us us" else "me me me"
        if number == 39:
            samples = np.zeros_like(samples)
        write_audio(folder / f"{number:02}.wav", samples.astype(np.float32), RATE)
        lines.append(f"{number:02}.wav\t{text}\n")
    (folder / "said.tsv").write_text("".join(lines))
    for embed in ("audio", "features"):
        plan(str(folder / "said.tsv"), str(folder / embed), embed=embed)
        with pytest.MonkeyPatch.context() as patch:
            # As in a store from before labeling put digital silence into quarantine.
            patch.setattr(reading, "refuse_silence", lambda samples, what: None)
            run(Local(Store.open(str(folder / embed))))
    return folder


@pytest.fixture(scope="module")
def aligned(folder: Path) -> Path:
    found = align_store(
        Store.open(str(folder / "audio")), str(folder / "aligned"), folder / "lexicon.txt", save=folder / "a.npz"
    )
    assert sorted(found.left_out.reasons) == ["38", "39"] and found.count == 38
    assert (
        "digital silence" in found.left_out.reasons["39"]
        and "does not fit its transcript" in found.left_out.reasons["38"]
    )
    assert found.summary is not None and found.summary.begin == found.summary.end == 38
    assert 0.2 < found.summary.silence < 0.7 and not found.summary.warnings()[1:]
    return folder / "aligned"


def labels(root: Path) -> dict[str, np.ndarray]:
    return {row["id"]: np.array(row["alignment"]) for row in Store.open(str(root)).rows(["id", "alignment"])}


@pytest.mark.slow
def test_features_are_aligned_as_audio_is(folder: Path, aligned: Path) -> None:
    align_store(Store.open(str(folder / "features")), str(folder / "from-features"), folder / "lexicon.txt")
    ours, theirs = labels(folder / "from-features"), labels(aligned)
    agree = np.concatenate([(ours[key] == 0) == (theirs[key] == 0) for key in theirs if key in ours])
    assert len(ours) >= 36 and agree.mean() > 0.95


def test_a_saved_aligner_aligns_another_store_and_one_utterance_alone(folder: Path, aligned: Path) -> None:
    align_store(
        Store.open(str(folder / "audio")), str(folder / "again"), folder / "lexicon.txt", saved=folder / "a.npz"
    )
    for key, own in labels(folder / "again").items():
        np.testing.assert_array_equal(own, labels(aligned)[key])


def test_what_cannot_be_used_is_refused(folder: Path, aligned: Path, tmp_path: Path) -> None:
    given = (Store.open(str(folder / "audio")), str(tmp_path / "out"))
    (tmp_path / "other.txt").write_text("us o o\n")
    with pytest.raises(MismatchError, match="does not know the phones 'o'"):
        align_store(*given, tmp_path / "other.txt", saved=folder / "a.npz")
    with pytest.raises(ConfigError, match="give one of model, save and saved"):
        align_store(*given, folder / "lexicon.txt", saved=folder / "a.npz", save=tmp_path / "b.npz")
    assert not (tmp_path / "out").exists()
