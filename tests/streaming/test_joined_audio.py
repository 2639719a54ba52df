"""Targets without audio, joined by id with the audio of lhotse cuts."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, Recording
from stream_helpers import FRONT_END, make_loader

from asrkd.errors import CorpusError, StoreError
from asrkd.store import Store
from asrkd.streaming.joined_audio import JoinedAudio
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source

MakeStore = Callable[..., str]


@pytest.fixture
def cuts(make_store: MakeStore, tmp_path: Path) -> Path:
    """The audio of a store's rows, in another order and with cuts that the store does not have."""
    made = []
    for row in Store.open(make_store("u", rows=20)).rows():
        samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
        path = tmp_path / "audio" / f"{row['id']}.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, rate, subtype="PCM_16")
        made.append(Recording.from_file(path, recording_id=row["id"]).to_cut().with_id(row["id"]))
    CutSet.from_cuts(made[::-1] + [made[0].with_id("other")]).to_file(tmp_path / "cuts.jsonl")
    return tmp_path / "cuts.jsonl"


def _loader(root: str, audio: str) -> Loader:
    return Loader(
        {"s": Source("s", Store.open(root), audio=audio)}, front_end=FRONT_END, max_frames=60, max_utterances=4
    )


@pytest.mark.parametrize("packed", [False, True])
def test_the_batches_are_those_of_embedded_audio(make_store: MakeStore, cuts: Path, packed: bool) -> None:
    if packed:
        path = cuts.with_suffix(".jsonl.gz")
        path.write_bytes(gzip.compress(cuts.read_bytes()))
        cuts = path
    embedded = list(make_loader({"s": make_store("u", rows=20)}, augment=None, seed=0).epoch("s"))
    joined = list(_loader(make_store("u", rows=20, embed="none"), str(cuts)).epoch("s"))
    found = {}
    for batches in (embedded, joined):
        for batch in batches:
            for row, name in enumerate(batch.ids):
                found.setdefault(name, []).append(batch.features[row, : batch.feature_lengths[row]])
    assert len(found) == 20
    for first, second in found.values():
        torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


def test_another_process_finds_the_audio_too(cuts: Path) -> None:
    joined = JoinedAudio(cuts)
    again = pickle.loads(pickle.dumps(joined))
    np.testing.assert_array_equal(again.samples("u7", 8000), joined.samples("u7", 8000))
    del again
    assert len(joined.samples("u7", 8000))


def test_lines_end_at_line_feeds_alone(cuts: Path, tmp_path: Path) -> None:
    expected = JoinedAudio(cuts).samples("u7", 8000)
    made = [json.loads(line) for line in cuts.read_bytes().split(b"\n")[:-1]]
    for cut in made:
        cut["id"] = f"é\u2028{cut['id']}"
    lines = [json.dumps(cut, ensure_ascii=False).encode() for cut in made]
    (tmp_path / "odd.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n".join(lines))
    joined = JoinedAudio(tmp_path / "odd.jsonl")
    np.testing.assert_array_equal(joined.samples("é\u2028u7", 8000), expected)
    assert len(joined.samples(made[0]["id"], 8000))  # behind the byte order mark


def test_two_cuts_of_one_id_are_refused(cuts: Path, tmp_path: Path) -> None:
    content = cuts.read_bytes()
    (tmp_path / "twice.jsonl").write_bytes(content + content.split(b"\n")[3] + b"\n")
    with pytest.raises(CorpusError, match="has the cut 'u16' more than once"):
        JoinedAudio(tmp_path / "twice.jsonl")


def test_what_does_not_fit_is_refused(make_store: MakeStore, cuts: Path, tmp_path: Path) -> None:
    root = make_store("u", rows=21, embed="none")
    with pytest.raises(CorpusError, match="no cut 'u20', but the store"):
        list(_loader(root, str(cuts)).epoch("s"))
    lines = [json.loads(line) for line in cuts.read_text().splitlines()]
    for line in lines:
        if line["id"] == "u5":
            line["duration"] /= 2
    (tmp_path / "shorter.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(StoreError, match="'u5' .* samples of audio, but its row says"):
        list(_loader(make_store("u", rows=20, embed="none"), str(tmp_path / "shorter.jsonl")).epoch("s"))
    (tmp_path / "wrong.jsonl").write_text('{"id": "a"}\n[]\n')
    with pytest.raises(CorpusError, match="line 2 of .*wrong.jsonl' is not a lhotse cut"):
        JoinedAudio(tmp_path / "wrong.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(CorpusError, match="are empty"):
        JoinedAudio(tmp_path / "empty.jsonl")
    with pytest.raises(CorpusError, match="cannot be read: No such file"):
        JoinedAudio(tmp_path / "none.jsonl")
