"""The pile of recordings of `tools/benchmarks/pile.py`, a small one: whatever is wrong with a file, it is in the store or there is a reason."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from asrkd.cli import cli
from asrkd.segmentation.run import report_file

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tools/benchmarks"

# What the reason of each way is to say; None where it needs none.
SAID = {
    "empty": "is empty (0 bytes)",
    "cut off": "",
    "random bytes": "cannot be read",
    "a header alone": "",
    "a text": "cannot be read",
    "a sample is NaN": "NaN or infinite",
    "samples of 16-bit range": "samples of up to",
    "channels that cancel": "cancel each other",
    "a dead link": "is a link to 'nowhere'",
    "zeros": "cannot be read",
    "another end": "",
    "no samples": "holds no samples",
    "an empty folder": "is an empty folder",
}


@pytest.mark.slow
def test_every_file_of_a_pile_is_in_the_store_or_has_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("pile", FOLDER / "pile.py")
    assert spec and spec.loader
    pile = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pile", pile)
    spec.loader.exec_module(pile)
    monkeypatch.setattr(pile, "JOINED", (1, 2))

    def asrkd(*arguments: object) -> str:
        done = CliRunner().invoke(cli, [str(one) for one in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stderr

    folder, segments, root = tmp_path / "pile", tmp_path / "segments.jsonl.gz", f"{tmp_path}/store"
    folder.mkdir()
    speech = sorted((ROOT / "tests/data/speech/audio").iterdir())
    files, broken = pile.make(folder, speech, 2 * len(pile.WAYS), every=2)
    # The warning of what was passed over goes to the standard error, but pytest catches it.
    told = asrkd("segment", folder, segments, "--vad", "energy") + caplog.text
    teacher = pile.write_teacher(tmp_path / "final.pt")
    asrkd("label", "plan", segments, root, "--teacher", teacher, "--codec", "topk:20")
    asrkd("label", "run", root, "--readers", "0")
    asrkd("store", "verify", root)
    where = dict(pile.fates(files, segments, told, root))
    assert len(where) == 2 * len(pile.WAYS) and set(broken.values()) == {*pile.WAYS}
    assert "NOWHERE" not in where.values()
    assert {where[key] for key in files if key not in broken} == {"in the store"}
    lines = map(json.loads, report_file(segments).read_text(encoding="utf-8").splitlines()[1:])
    reasons = {Path(line["id"].rstrip("/")).stem: line.get("unreadable", "") for line in lines}
    for key, way in broken.items():
        if where[key] == "a reason in the report":
            assert SAID[way] in reasons[key], (way, reasons[key])
        else:
            assert way not in SAID or not SAID[way], (way, where[key])
