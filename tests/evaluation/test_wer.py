from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd.errors import CorpusError, MismatchError
from asrkd.evaluation.files import read_hypotheses, write_hypotheses, write_scores
from asrkd.evaluation.wer import Errors, bootstrap, bootstrap_difference, by_speaker, score, total

words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=7)


def levenshtein(reference: list[str], hypothesis: list[str]) -> int:
    row = list(range(len(hypothesis) + 1))
    for i, r in enumerate(reference, 1):
        previous, row[0] = row[0], i
        for j, h in enumerate(hypothesis, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (r != h))
    return row[-1]


@given(words, words)
def test_errors_equal_a_plain_edit_distance(reference: list[str], hypothesis: list[str]) -> None:
    (one,) = score({"u": " ".join(reference)}, {"u": " ".join(hypothesis)}, {"u": "s"})
    assert one.errors.total == levenshtein(reference, hypothesis)
    assert one.errors.reference == len(reference)
    assert [r for r, _ in one.pairs if r != "*"] == reference
    assert [h for _, h in one.pairs if h != "*"] == hypothesis


def test_rates_by_speaker_add_up() -> None:
    scored = score({"u": "a b", "v": "a", "w": "c"}, {"u": "a", "v": "b", "w": "c c"}, {"u": "s", "v": "s", "w": "t"})
    assert by_speaker(scored) == {"s": Errors(1, 1, 0, 3), "t": Errors(0, 0, 1, 1)}
    assert total(scored) == Errors(1, 1, 1, 4)
    assert total(scored).rate == 0.75


def test_missing_utterances_are_refused_by_id() -> None:
    with pytest.raises(MismatchError, match="'v'"):
        score({"u": "a", "v": "b"}, {"u": "a"}, {})
    with pytest.raises(MismatchError, match="'x'"):
        score({"u": "a"}, {"u": "a", "x": "b"}, {})


def test_interval_of_equal_speakers_is_a_point_and_of_two_speakers_spans_both() -> None:
    assert bootstrap({"s": [Errors(1, 0, 0, 10)], "t": [Errors(1, 0, 0, 10)]}) == (0.1, 0.1)
    assert bootstrap({"s": [Errors(0, 0, 0, 10)], "t": [Errors(5, 0, 0, 10)]}) == (0.0, 0.5)


def test_paired_difference_is_tighter_than_the_speakers_apart() -> None:
    baseline = {str(n): [Errors(10 * n, 0, 0, 100)] for n in range(1, 7)}
    system = {str(n): [Errors(10 * n - 5, 0, 0, 100)] for n in range(1, 7)}
    (difference, low, high), (relative, _, _) = bootstrap_difference(system, baseline)
    assert difference == pytest.approx(-0.05) and low == pytest.approx(-0.05) and high == pytest.approx(-0.05)
    assert relative == pytest.approx(-5 / 35)
    with pytest.raises(MismatchError, match="paired"):
        bootstrap_difference(system, {"1": baseline["1"]})


def test_files_round_trip(tmp_path: Path) -> None:
    hypotheses = {"u": "a b", "v": ""}
    write_hypotheses(tmp_path / "hyp.txt", hypotheses)
    assert read_hypotheses(tmp_path / "hyp.txt") == hypotheses
    write_scores(tmp_path, "test", score({"u": "a c", "v": "a"}, hypotheses, {"u": "s", "v": "s"}))
    assert "WER 66.67 %" in (tmp_path / "wer-summary-test.txt").read_text()
    assert "(c->b)" in (tmp_path / "errs-test.txt").read_text()
    (tmp_path / "hyp.txt").write_text("u a\nu b\n")
    with pytest.raises(CorpusError, match="twice"):
        read_hypotheses(tmp_path / "hyp.txt")
