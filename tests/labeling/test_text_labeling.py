"""A text teacher's store is labeled like any other: exactly once, the same bytes, bad cuts in quarantine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import kill_at_random, make_cuts
from text_helpers import PYTHON

from asrkd.cli import cli
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError, MismatchError, ModelError, StoreError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import grow, plan
from asrkd.store import Store
from asrkd.store.compact import compact
from asrkd.store.delete import delete
from asrkd.store.verify import verify
from asrkd.targets.streams import TOKENS
from asrkd.targets.token_codec import TokenTargets

MODULE = "text_teachers_of_a_labeling_test"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The spec of a teacher of the test's own code, here and in processes that are started."""
    (tmp_path / f"{MODULE}.py").write_text(PYTHON)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    return f"text:python:{MODULE}:"


def shards(root: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(root, "shards").glob("*.parquet"))}


def settings_of(folder: Path, model: str, text: str = "") -> str:
    path = folder / "settings.yaml"
    path.write_text(f"model: {model.removeprefix('text:')}\n{text}")
    return f"text:{path}"


def test_rows_of_a_text_teacher(own: str, tmp_path: Path) -> None:
    cuts = make_cuts(tmp_path, "a", 7)
    spec = settings_of(tmp_path, own + "teacher", "num_beams: 2\nn_best: 2\nlanguage: de\n")
    store = plan(str(cuts), str(tmp_path / "store"), teacher=spec, unit_hours=0.0005)
    assert store.num_units > 1 and store.identity.inventory is None and store.identity.front_end == FrontEnd()
    tally = run(Local(store))
    assert tally.num_bad == 0 and verify(store.root) == []
    store = Store.open(store.root)
    rows = list(store.rows())
    assert [row["id"] for row in rows] == [f"a-{number}" for number in range(7)]
    for row in rows:
        words = " ".join(str(row["num_samples"]))
        assert (row["text"], row["text_raw"]) == (f"um {words}", f"Um, {words}!")
        assert row["num_frames"] == FrontEnd().frame_law().num_frames(row["num_samples"])
        assert row["text_no_speech"] == pytest.approx(0.1) and row["text_language"] == "en"
        # Digits are not letters, the language was to be another.
        assert {"language", "charset"} <= set(row["text_flags"]) <= {"language", "charset", "long"}
        assert json.loads(row["text_words"]) == [["Um", 0.0, 0.2]]
        tokens = store.stream(TOKENS, [row])
        assert isinstance(tokens, TokenTargets) and tokens.texts() == [[row["text"], "eh"]]
        assert tokens.ids.tolist() == [*map(int, words.split()), 1]
        level = -float(tokens.log_probs[0])
        assert row["text_confidence"] == pytest.approx(np.exp(-level), abs=1e-3)
        assert tokens.scores.tolist() == pytest.approx([-level * len(words.split()), -2.0], abs=1e-2)
    with pytest.raises(StoreError, match="holds tokens, and no posteriors"):
        store.targets(rows[0])
    compact(store, str(tmp_path / "compact"))
    assert verify(str(tmp_path / "compact")) == []
    delete(store, ids=["a-3"])
    assert verify(store.root) == [] and Store.open(store.root).num_rows() == 6


@pytest.mark.slow
def test_killed_and_run_again_the_bytes_are_the_same(own: str, tmp_path: Path) -> None:
    cuts = make_cuts(tmp_path, "b", 12)
    roots = [str(tmp_path / name) for name in ("whole", "killed")]
    for root in roots:
        plan(str(cuts), root, teacher=own + "slow", unit_hours=0.0008)
    run(Local(Store.open(roots[0])))
    command = [sys.executable, "-m", "asrkd", "label", "run", roots[1], "--readers", "0"]
    killed = kill_at_random(command, kills=1, seed=1, watch=lambda: len(shards(roots[1])))
    assert killed == 1
    assert shards(roots[0]) == shards(roots[1]) and len(shards(roots[0])) > 1
    assert verify(roots[1]) == []


def test_bad_cuts_go_to_quarantine_and_the_rest_is_labeled(own: str, tmp_path: Path) -> None:
    cuts = make_cuts(tmp_path, "c", 8)
    store = plan(str(cuts), str(tmp_path / "store"), teacher=own + "picky", unit_hours=0.001)
    tally = run(Local(store), max_quarantined=1.0)
    odd = [
        cut["id"] for unit in range(store.num_units) for cut in store.cuts(unit) if round(cut["duration"] * 16000) % 2
    ]
    reasons = dict(entry for _, bad in store.quarantine.each(range(store.num_units)) for entry in bad)
    assert sorted(reasons) == sorted(odd) and tally.num_bad == len(odd)
    assert all(
        "fails on it, though not on others (RuntimeError: no text today)" in reason for reason in reasons.values()
    )
    assert verify(store.root) == []
    broken = plan(str(cuts), str(tmp_path / "broken"), teacher=own + "broken")
    with pytest.raises(ModelError, match="fails on 'c-.', and on noise: RuntimeError: no text today"):
        run(Local(broken))


def test_a_cut_longer_than_the_teacher_takes(own: str, tmp_path: Path) -> None:
    cuts = make_cuts(tmp_path, "d", 6)
    store = plan(str(cuts), str(tmp_path / "store"), teacher=own + "short")
    long = [cut["id"] for cut in store.cuts(0) if cut["duration"] > 1.2]
    assert 0 < len(long) < 6 and store.plan["num_too_long"] == len(long)
    run(Local(store), max_quarantined=1.0)
    reasons = dict(store.quarantine.of([0]))
    assert sorted(reasons) == sorted(long) and "takes 1.2 s at a time" in reasons[long[0]]
    grown, added = grow(str(make_cuts(tmp_path, "e", 3)), store)
    assert added == 3 and grown.plan["num_too_long"] >= len(long) and grown.plan["max_seconds"] == 1.2


def test_other_rates_are_resampled_for_the_teacher(own: str, tmp_path: Path) -> None:
    cuts = make_cuts(tmp_path, "f", 2)
    store = plan(str(cuts), str(tmp_path / "store"), teacher=own + "teacher", front_end=FrontEnd(sampling_rate=8000))
    run(Local(store))
    for row in Store.open(store.root).rows():
        assert row["sampling_rate"] == 8000 and row["text"] == f"um {' '.join(str(2 * row['num_samples']))}"


def test_a_changed_teacher_is_refused(own: str, tmp_path: Path) -> None:
    cuts = make_cuts(tmp_path, "g", 2)
    spec = settings_of(tmp_path, own + "teacher")
    store = plan(str(cuts), str(tmp_path / "store"), teacher=spec)
    settings_of(tmp_path, own + "teacher", "language: fr\n")
    with pytest.raises(MismatchError, match="now has the fingerprint"):
        run(Local(store))


def test_what_is_of_frames_is_refused_in_one_line(own: str, tmp_path: Path) -> None:
    cuts = make_cuts(tmp_path, "h", 2)
    options: list[tuple[dict[str, Any], str]] = [
        ({"codec": "topk:20"}, "codec 'topk:20', which packs posteriors of frames, is given with the text teacher"),
        ({"autocast": "bfloat16"}, "autocast or compile is given with the text teacher"),
        ({"compile": True}, "autocast or compile is given with the text teacher"),
        ({"layer": "encoder"}, "layer 'encoder' is given without a teacher of frames"),
    ]
    for given, why in options:
        with pytest.raises(ConfigError, match=why):
            plan(str(cuts), str(tmp_path / "store"), teacher=own + "teacher", **given)
    assert not (tmp_path / "store").exists() or not any((tmp_path / "store").iterdir())
    result = CliRunner().invoke(cli, ["label", "plan", str(cuts), str(tmp_path / "x"), "--teacher", "text:nosuch:y"])
    assert (
        result.exit_code == 1
        and isinstance(result.exception, ModelError)
        and "of no known kind" in str(result.exception)
    )


def test_estimate_takes_a_text_teacher(own: str, tmp_path: Path) -> None:
    cuts = make_cuts(tmp_path, "i", 12)
    result = CliRunner().invoke(
        cli,
        [
            "estimate",
            str(cuts),
            "--hours",
            "10",
            "--teacher",
            own + "teacher",
            "--readers",
            "0",
            "--sample-minutes",
            "0.1",
        ],
    )
    assert result.exit_code == 0, result.output
    assert "token_ids" in result.output or "audio" in result.output
