from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from edit_distance import levenshtein
from hypothesis import given
from hypothesis import strategies as st

from asrkd import text
from asrkd.errors import CorpusError, MismatchError
from asrkd.evaluation.files import read_hypotheses, summary, write_hypotheses, write_scores
from asrkd.evaluation.wer import Errors, _drawn, bootstrap, bootstrap_difference, by_speaker, score, total

words = st.lists(st.sampled_from(["a", "b", "*", "-1", "<eps>"]), max_size=7)


@given(words, words)
def test_errors_equal_a_plain_edit_distance(reference: list[str], hypothesis: list[str]) -> None:
    (one,) = score({"u": " ".join(reference)}, {"u": " ".join(hypothesis)}, {"u": "s"})
    assert one.errors.total == levenshtein(reference, hypothesis)
    assert one.errors.reference == len(reference)
    assert [r for r, _ in one.pairs if r is not None] == reference
    assert [h for _, h in one.pairs if h is not None] == hypothesis


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


def test_a_word_that_looks_like_a_gap_is_a_word() -> None:
    assert total(score({"u": "a * b"}, {"u": "a b"}, {})) == Errors(0, 1, 0, 3)
    assert total(score({"u": "a b"}, {"u": "a * b"}, {})) == Errors(0, 0, 1, 2)
    assert total(score({"u": "* *"}, {"u": "* a"}, {})) == Errors(1, 0, 0, 2)


def test_words_are_compared_in_the_composed_form_and_told(caplog: pytest.LogCaptureFixture) -> None:
    assert total(score({"u": "cafe\u0301 la"}, {"u": "caf\u00e9 la"}, {})).total == 0
    assert caplog.text.count("1 utterances were compared in Unicode's composed form") == 1
    caplog.clear()
    assert total(score({"u": "caf\u00e9"}, {"u": "cafe"}, {})).total == 1 and not caplog.text
    # A no-break space is part of a word, as in Kaldi and in the lexicon.
    assert total(score({"u": "a\u00a0b c"}, {"u": "a\u00a0b c"}, {})).reference == 2


def test_without_words_there_is_no_rate() -> None:
    scored = score({"u": "", "v": ""}, {"u": "a b", "v": ""}, {})
    with pytest.raises(CorpusError, match="hold no words, .*2 words were inserted"):
        _ = total(scored).rate
    assert summary(scored).startswith(
        "WER undefined, without reference words, over 2 speakers: 0 substitutions, 0 deletions, 2 ins"
    )
    with pytest.raises(CorpusError, match="hold no words"):
        bootstrap_difference({"u": [Errors(0, 0, 1, 0)]}, {"u": [Errors()]})


def test_the_interval_is_of_at_least_two_speakers_with_words() -> None:
    one = score({"u": "a b", "v": "c"}, {"u": "a", "v": "c"}, {"u": "s", "v": "s"})
    assert summary(one).split("\n") == [
        "WER 33.33 % (no interval: fewer than 2 speakers with words) over 1 speaker: 0 substitutions, 1 deletions, 0 insertions, "
        "3 words, 2 utterances",
        "  s\t33.33 %\t3 words",
    ]
    # Of the draws of three speakers those of the silent one alone have no rate.
    silent = score({"u": "a b", "v": "c d", "w": ""}, {"u": "a", "v": "c d", "w": ""}, {})
    assert (
        "nan" not in summary(silent)
        and "[0.00, 50.00]" in summary(silent)
        and "  w\tundefined\t0 words" in summary(silent)
    )


# Any words and ids: a text file in UTF-8 holds no surrogates.
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["*", "**", "->", "(a->b)", "\u2028", "\x85", "\xa0", "ref=", "\ufeff", "a\tb", "\r", "(u-1)"]
)


@given(st.dictionaries(anything, st.lists(anything, max_size=4).map(" ".join), min_size=1, max_size=4))
def test_what_is_written_is_read_as_it_was_or_refused(
    tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("files") / "hyp.txt"
    try:
        write_hypotheses(path, texts)
    except CorpusError:
        assert not path.exists() and any(re.search(r"^$|^\ufeff|[ \t\r\n]", key) for key in texts)
        return
    wanted = {key: " ".join(text.words(words)) for key, words in texts.items()}
    try:
        assert read_hypotheses(path) == wanted
    except CorpusError as error:
        assert re.search("trn format|recogs file|errs or wer", str(error))


def parsed(line: str, gap: str, arrow: str) -> list[tuple[str | None, str | None]]:
    pairs: list[tuple[str | None, str | None]] = []
    for token in text.words(line):
        ref, found, hyp = token.partition(arrow)
        ref, hyp = (ref[1:], hyp[:-1]) if found else (token, token)
        pairs.append((None if ref == gap else ref, None if hyp == gap else hyp))
    return pairs


@given(st.lists(anything, max_size=5).map(" ".join), st.lists(anything, max_size=5).map(" ".join))
def test_alignments_can_be_read_back(tmp_path_factory: pytest.TempPathFactory, reference: str, hypothesis: str) -> None:
    folder = tmp_path_factory.mktemp("files")
    (scored,) = score({"u": reference}, {"u": hypothesis}, {})
    write_scores(folder, "test", [scored])
    lines = text.lines((folder / "errs-test.txt").read_bytes().decode())
    signs = re.fullmatch(r"here an error is \(reference(\S+)hypothesis\), and a gap is (\S+)", lines[-2])
    arrow, gap = (signs[1], signs[2]) if signs else ("->", "*")
    assert tuple(parsed(lines[-1].removeprefix("u:\t"), gap, arrow)) == scored.pairs
    recogs = text.lines((folder / "recogs-test.txt").read_bytes().decode())
    assert [text.words(line.split("=", 1)[1]) for line in recogs] == [
        text.words(text.normal(one)) for one in (reference, hypothesis)
    ]


def test_files_round_trip(tmp_path: Path) -> None:
    hypotheses = {"u": "a b", "v": ""}
    write_hypotheses(tmp_path / "hyp.txt", hypotheses)
    assert read_hypotheses(tmp_path / "hyp.txt") == hypotheses
    write_scores(tmp_path, "test", score({"u": "a c", "v": "a"}, hypotheses, {"u": "s", "v": "s"}))
    assert "WER 66.67 %" in (tmp_path / "wer-summary-test.txt").read_text()
    assert "(c->b)" in (tmp_path / "errs-test.txt").read_text()
    (tmp_path / "hyp.txt").write_text("u a\nu b\n")
    with pytest.raises(CorpusError, match="on line 1 and again on line 2"):
        read_hypotheses(tmp_path / "hyp.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no utterances"),
        (" \n\t\n", "holds no utterances"),
        ("u a\nv b\nu c\n", "utterance 'u' on line 1 and again on line 3"),
        ("u:\tref=a b\nu:\thyp=a\n", "is a recogs file"),
        ("WER 12.50 % [1.00, 2.00] over 3 speakers: 1 substitutions\n\nu:\ta\n", "is an errs or wer-summary file"),
        ("a b (spk1-utt1)\na c (spk1-utt2)\n", "is in the trn format.*line 1 ends with '\\(spk1-utt1\\)'"),
        ("u a\nv é\n".encode("latin-1"), "line 2 is not UTF-8"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "hyp.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorpusError, match=message):
        read_hypotheses(tmp_path / "hyp.txt")


def test_forms_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "hyp.txt").write_bytes(b"\xef\xbb\xbfu\ta  b \r\n\r\nv\r\nw \xe2\x80\xa8 (laughs)")
    assert read_hypotheses(tmp_path / "hyp.txt") == {"u": "a b", "v": "", "w": "\u2028 (laughs)"}


@pytest.mark.parametrize("block", [1, 40, 10**9])
def test_draws_made_in_blocks_are_those_made_at_once(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asrkd.evaluation.wer._BLOCK", block)
    rng = np.random.default_rng(3)
    values = [rng.integers(0, 50, 13).astype(float) for _ in range(2)]
    draws = np.random.default_rng(5).integers(0, 13, size=(101, 13))
    for summed, one in zip(_drawn(values, 101, 5), values, strict=True):
        assert np.array_equal(summed, one[draws].sum(axis=1))
