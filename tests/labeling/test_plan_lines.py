"""Whatever a manifest holds is planned as it was, or is quarantined with the reason."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import grow, plan
from asrkd.labeling.plan_lines import plan_line
from asrkd.labeling.status import status
from asrkd.store import Store
from asrkd.store.delete import delete, deleted_ids
from asrkd.store.files import Files
from asrkd.store.plan import read_cuts
from asrkd.store.quarantine import Quarantine
from asrkd.store.verify import verify

# Also lone surrogates, which JSON's escapes may hold.
texts = st.text(max_size=8) | st.sampled_from(["\u2028", "a\u2029b", "\x85", "\f", "\x1c", "\ufeff", "\r\n", "\udce9"])
numbers = st.floats() | st.integers()


def cut(key: str, **changes: Any) -> dict[str, Any]:
    recording = {
        "id": "r",
        "sources": [{"type": "file", "channels": [0], "source": "/none.wav"}],
        "sampling_rate": 16000,
    }
    recording |= {"num_samples": 16000, "duration": 1.0, "channel_ids": [0]}
    made = {"id": key, "start": 0.0, "duration": 1.0, "channel": 0, "type": "MonoCut", "recording": recording}
    return made | changes


def is_plain(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(texts.filter(bool), texts), min_size=1, max_size=4, unique_by=lambda row: row[0]), st.booleans()
)
def test_any_manifest_is_planned_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], escaped: bool
) -> None:
    folder = tmp_path_factory.mktemp("plan")
    cuts = [
        cut(key, supervisions=[{"id": key, "recording_id": "r", "start": 0.0, "duration": 1.0, "text": words}])
        for key, words in rows
    ]
    escaped = escaped or not is_plain(cuts)
    (folder / "c.jsonl").write_bytes("".join(json.dumps(one, ensure_ascii=escaped) + "\n" for one in cuts).encode())
    bad = [one for one in cuts if not is_plain(one)]
    if len(bad) < len(cuts):
        plan(str(folder / "c.jsonl"), str(folder / "st"), embed="audio")
        planned = read_cuts(Files(str(folder / "st")), 0)
        assert [one for one in planned if "unreadable" not in one] == [one for one in cuts if is_plain(one)]
        assert ["is not UTF-8" in str(one.get("unreadable", "which is not UTF-8")) for one in planned] == [True] * len(
            cuts
        )
        assert grow(str(folder / "c.jsonl"), Store.open(str(folder / "st")))[1] == 0


def test_a_name_that_is_not_utf8_is_a_reason(tmp_path: Path) -> None:
    bad = cut("caf\udce9")
    planned, line, changed = plan_line(copy.deepcopy(bad))
    assert planned["id"] == "caf\\udce9" and json.loads(line) == planned and not changed
    assert "cut 'caf\\\\udce9': id is 'caf\\\\udce9', which is not UTF-8" in planned["unreadable"]
    bad = cut("a")
    bad["recording"]["sources"][0]["source"] = "/\udcff.wav"
    assert "cut 'a': recording.sources.0.source is '/\\\\udcff.wav'" in plan_line(bad)[0]["unreadable"]


def test_numbers_that_are_not_finite(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    planned, line, changed = plan_line(cut("a", custom={"snr": float("nan"), "more": [1, {"x": float("inf")}]}))
    assert changed and planned["custom"] == {"snr": None, "more": [1, {"x": None}]} and json.loads(line) == planned
    assert "has start=inf, which is not a finite number" in plan_line(cut("a", start=float("inf")))[0]["unreadable"]
    (tmp_path / "c.jsonl").write_text(json.dumps(cut("a", custom={"snr": float("nan")})) + "\n")
    with caplog.at_level(logging.WARNING):
        plan(str(tmp_path / "c.jsonl"), str(tmp_path / "st"), embed="audio")
    assert "1 cuts have custom fields that are NaN" in caplog.text
    assert read_cuts(Files(str(tmp_path / "st")), 0)[0]["custom"] == {"snr": None}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(texts, texts), max_size=4))
def test_the_quarantine_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, str]]
) -> None:
    root = str(tmp_path_factory.mktemp("store"))
    quarantine = Quarantine(Files(root))
    quarantine.write(0, entries)
    assert quarantine.of([0]) == entries


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\f", "\x1c"])
def test_characters_that_some_take_for_line_ends_are_labeled_and_deleted(
    corpus: Path, tmp_path: Path, sign: str
) -> None:
    audio = sorted((corpus / "audio/labeled").iterdir())[:3]
    rows = "".join(f"{path}\tu{sign}{number}\ta{sign}b\n" for number, path in enumerate(audio))
    (tmp_path / "c.tsv").write_bytes(f"audio\tid\ttext\n{rows}/none.wav\tu{sign}bad\tno\n".encode())
    root = str(tmp_path / "st")
    plan(str(tmp_path / "c.tsv"), root, embed="audio")
    run(Local(Store.open(root)), max_quarantined=0.5)
    assert [(row["id"], row["text"]) for row in Store.open(root).rows(["id", "text"])] == [
        (f"u{sign}{number}", f"a{sign}b") for number in range(3)
    ]
    assert [key for key, _ in status(Store.open(root)).quarantine] == [f"u{sign}bad"] and verify(root) == []
    delete(Store.open(root), ids=[f"u{sign}bad", f"u{sign}1"])
    assert deleted_ids(Files(root), 0) == sorted([f"u{sign}bad", f"u{sign}1"]) and verify(root) == []
