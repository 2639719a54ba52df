from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from graph_helpers import trained

from asrkd.alignment.align_store import Aligned, align_store
from asrkd.alignment.left_out import LeftOut
from asrkd.alignment.summary import Example, Summary
from asrkd.alignment.timeline import Span, Timeline
from asrkd.cli import cli
from asrkd.errors import ConfigError
from asrkd.report.alignment import utterance_picture, write_alignment_report
from asrkd.store import Identity, Store
from asrkd.store.files import Files


def example(key: str, gain: float, *spans: tuple[int, int], frames: int = 40) -> Example:
    phones = tuple(Span(start, end, "a") for start, end in spans)
    return Example(key, "ah", gain, Timeline(frames, (Span(spans[0][0], spans[-1][1], "ah"),), phones))


def filled(summary: Summary, count: int = 100, *spans: tuple[int, int], quiet: bool = False) -> Summary:
    rng = np.random.default_rng(0)
    for number in range(count):
        summary.add(example(f"u{number}", -2 + rng.normal() / 5, *(spans or ((5, 12), (12, 30)))), quiet_start=quiet)
    return summary


def test_an_alignment_without_fault_has_no_warning() -> None:
    summary = filled(Summary(0.01, 3), quiet=True)
    assert summary.warnings() == [] and summary.silence == pytest.approx(15 / 40)
    assert (summary.begin, summary.end, summary.quiet_found) == (100, 100, 100)
    assert summary.phone_frames == (7, 7, 18)


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        (filled(Summary(0.03, 2), 9, (0, 2), (2, 4), (4, 9)), r"67% of the phones last only 2 frames \(60 ms\)"),
        (filled(Summary(0.03, 1, True), 9, (0, 1), (1, 2), (2, 3)), r"100% of the tokens last only 1 frame \(30 ms\)"),
        (filled(Summary(0.01, 0), 9, (5, 6)), "98% of the frames are silence"),
        (filled(Summary(0.01, 3), 20, (0, 20), quiet=True), "only 0 of them with silence"),
        (filled(Summary(0.01, 3, odd=10)), "10 of 110 utterances do not fit"),
        (filled(Summary(0.03, 1, True, too_fast=4), 100, (0, 1), (3, 4), (9, 10)), "4 of 104 utterances have too few frames"),
        (filled(Summary(0.01, 3, usual=(0.0, 0.3), made_from=(0.0, 0.3))), "half of the utterances fit the aligner worse"),
    ],
)  # fmt: skip
def test_what_speaks_against_an_alignment_is_said(summary: Summary, said: str) -> None:
    (warning,) = [one for one in summary.warnings() if "least there is" not in one or "last only" in said]
    assert re.search(said, warning)


def test_an_utterance_that_fits_far_worse_than_the_others_is_named() -> None:
    summary = filled(Summary(0.03, 1))
    summary.add(example("other", -9.0, (5, 12)), quiet_start=False)
    assert summary.worst[0].key == "other" and summary.oddity(-9.0) > 10
    assert "1 of 101 utterances" in summary.warnings()[-1] and "'other'" in summary.warnings()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["hmm", "ctc"])
def test_the_command_writes_a_report_with_pictures(
    corpus: Path, tmp_path: Path, topology: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(corpus, tmp_path, topology)
    report, out = tmp_path / "report.html", tmp_path / "out"
    arguments = ["align", str(corpus / "stores/labeled"), str(out), "--lexicon", str(corpus / "lexicon.txt")]
    cli(
        [*arguments, "--states-per-phone", "1", "--model", f"checkpoint:{run}", "--report", str(report)],
        standalone_mode=False,
    )
    page = report.read_text(encoding="utf-8")
    unit = {"hmm": "phone", "ctc": "token"}[topology]
    assert page.count("<img") >= 4 and f"words and {unit}s" in page and "Worst utterances" in page
    assert "score" in capsys.readouterr().out


def test_spans_of_a_model_cover_its_labels(corpus: Path, tmp_path: Path) -> None:
    run = trained(corpus, tmp_path, "hmm")
    root = str(corpus / "stores/labeled")
    found = align_store(
        Store.open(root), str(tmp_path / "out"), corpus / "lexicon.txt", states_per_phone=1, model=f"checkpoint:{run}"
    )
    assert found.summary.utterances == 24 and found.summary.gains.count == 24
    labels = {
        row["id"]: np.array(row["alignment"]) for row in Store.open(str(tmp_path / "out")).rows(["id", "alignment"])
    }
    silent = sum(int((own == 0).sum()) for own in labels.values())
    assert found.summary.silent_frames == silent
    for one in found.summary.worst:
        spans = one.timeline.phones
        assert [span.name for span in one.timeline.words] == one.text.split()
        assert all(len(set(labels[one.key][span.start : span.end])) == 1 for span in spans)


def test_nothing_to_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to report"):
        write_alignment_report(
            tmp_path / "r.html", Aligned(0, LeftOut(), Summary(0.01, 3)), Store(Files("store"), Identity(), {})
        )


def test_names_that_look_like_formulas_are_drawn() -> None:
    odd = Example("k$_x$", "$a_ _b", -1.0, Timeline(30, (Span(0, 9, "$a_"), Span(9, 20, "_b")), (Span(0, 9, "$"),)))
    assert utterance_picture(odd, np.zeros((30, 8), np.float32), 0.01, 0.01).png.startswith(b"\x89PNG")
