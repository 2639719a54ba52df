"""Tables as cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asrkd.corpus.audio import Unreadable, write_audio
from asrkd.corpus.tables import table_cuts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    for number in range(3):
        write_audio(folder / f"u{number}.wav", np.full(16000, 0.1, dtype=np.float32), 16000)
    return folder


def test_an_unpaired_quotation_mark_takes_no_rows_with_it(folder: Path) -> None:
    table = folder / "c.tsv"
    table.write_text('audio\ttext\tspeaker\nu0.wav\tone\ts\nu1.wav\t"he said\ts\nu2.wav\tfour"\ts\n')
    cuts = list(table_cuts(table))
    assert [(cut["id"], cut["supervisions"][0]["text"]) for cut in cuts if not isinstance(cut, Unreadable)] == [
        ("u0", "one"),
        ("u1", '"he said'),
        ("u2", 'four"'),
    ]


def test_a_row_without_audio_is_bad_and_the_rest_is_not(folder: Path) -> None:
    table = folder / "c.csv"
    table.write_text("audio,id,text\nu0.wav,a,one\n,b,two\n ,,three\nu1.wav,d,\n")
    bad = {cut.id: cut.reason for cut in table_cuts(table) if isinstance(cut, Unreadable)}
    assert list(bad) == ["b", "c-line-4"] and "line 3 names no audio" in bad["b"]
    good = [cut for cut in table_cuts(table) if not isinstance(cut, Unreadable)]
    assert [cut["id"] for cut in good] == ["a", "d"] and not good[1]["supervisions"]
