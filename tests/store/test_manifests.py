"""A store as manifests of lhotse and NeMo: what went in comes out, by lhotse's reader and by asrkd's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus.corpus_writers import RATE, WRITERS, Spoken, spoken
from lhotse import CutSet

from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.transcripts import speaker_of, text_of
from asrkd.errors import AsrkdError
from asrkd.labeling.crew import Crew
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.manifests import to_lhotse, to_nemo

CORPUS = spoken()


def stored(path: str, folder: Path, embed: str = "audio") -> Store:
    plan(path, str(folder / "store"), embed=embed, unit_hours=0.0002)
    run(Local(Store.open(str(folder / "store")), Crew(readers=0)))
    return Store.open(str(folder / "store"))


def read(path: Path) -> list[Spoken]:
    found = []
    for cut in iterate_json(path):
        samples = np.rint(read_audio(to_cut(cut), RATE) * 32768).astype(np.int16)
        found.append(Spoken(cut["id"], samples, text_of(cut) or "", speaker_of(cut) or ""))
    return found


def assert_same(found: list[Spoken], expected: list[Spoken] = CORPUS) -> None:
    for one, other in zip(found, expected, strict=True):
        assert replace(one, samples=None) == replace(other, samples=None)  # type: ignore[arg-type]
        np.testing.assert_array_equal(one.samples, other.samples)


@pytest.mark.parametrize("form", ["lhotse", "parquet", "nemo, tarred", "kaldi, archive"])
@pytest.mark.parametrize("write", [to_lhotse, to_nemo])
def test_a_corpus_comes_out_with_its_audio(write, form: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "corpus").mkdir()
    store = stored(WRITERS[form](CORPUS, tmp_path / "corpus"), tmp_path)
    assert len(store.units()) > 1
    found = write(store, tmp_path / "out")
    assert found.utterances == len(CORPUS)
    assert_same(read(found.manifest))
    assert found.seconds == pytest.approx(sum(len(one.samples) for one in CORPUS) / RATE)


def test_lhotse_reads_its_manifest(tmp_path: Path) -> None:
    store = stored(WRITERS["nemo"](CORPUS, tmp_path), tmp_path)
    for audio in ("embedded", "original"):
        cuts = list(CutSet.from_file(to_lhotse(store, tmp_path / audio, audio).manifest))
        assert [cut.supervisions[0].text for cut in cuts] == [one.text for one in CORPUS]
        for cut, one in zip(cuts, CORPUS, strict=True):
            np.testing.assert_array_equal(np.rint(cut.load_audio()[0] * 32768), one.samples)


def test_a_line_of_nemo_has_what_nemo_reads(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(
        json.dumps({"audio_filepath": "u0.wav", "offset": 0.05, "duration": 0.1, "text": "x", "lang": "ar", "snr": 3})
        + "\n"
    )
    WRITERS["nemo"](CORPUS, tmp_path)
    store = stored(str(tmp_path / "m.json"), tmp_path)
    (line,) = map(json.loads, to_nemo(store, tmp_path / "o", "original").manifest.read_text().splitlines())
    assert line == {
        "id": "u0-000005-000010", "audio_filepath": str(tmp_path / "u0.wav"), "offset": 0.05, "duration": 0.1, "text": "x", "lang": "ar", "snr": 3,
    }  # fmt: skip
    (line,) = map(json.loads, to_nemo(store, tmp_path / "e").manifest.read_text().splitlines())
    assert line["audio_filepath"] == "audio/00000/000000.flac" and "offset" not in line and line["duration"] == 0.1
    (tmp_path / "e").rename(tmp_path / "moved")
    assert len(read(tmp_path / "moved/manifest.json")) == 1


def test_the_text_of_the_store_is_what_comes_out(corpus: Path, tmp_path: Path) -> None:
    """As where a teacher gave it: the plan has none."""
    store = stored(WRITERS["lhotse"]([replace(one, text="") for one in CORPUS], tmp_path), tmp_path)
    rows = store.rows

    def with_text(unit: int, columns: list[str]) -> list[dict[str, object]]:
        return [row | {"text": f"said by a teacher {row['id']}"} for row in Store.unit_rows(store, unit, columns)]

    store.unit_rows = with_text  # type: ignore[method-assign, assignment]
    assert rows is not None
    for audio in ("embedded", "original"):
        assert [one.text for one in read(to_lhotse(store, tmp_path / audio, audio).manifest)] == [
            f"said by a teacher {one.id}" for one in CORPUS
        ]


def test_what_a_manifest_cannot_name_is_refused_and_nothing_is_left(corpus: Path, tmp_path: Path) -> None:
    store = stored(WRITERS["parquet"](CORPUS, tmp_path), tmp_path, embed="features")
    with pytest.raises(AsrkdError, match="embeds 'features', so there is no audio"):
        to_lhotse(store, tmp_path / "out", "embedded")
    with pytest.raises(AsrkdError, match="is inside '.*train.parquet', which a manifest cannot name"):
        to_lhotse(store, tmp_path / "out")
    plan(str(corpus / "unlabeled.jsonl.gz"), str(tmp_path / "empty"), embed="audio")
    with pytest.raises(AsrkdError, match="no finished shard"):
        to_nemo(Store.open(str(tmp_path / "empty")), tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
