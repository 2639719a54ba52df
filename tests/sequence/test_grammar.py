"""ARPA files as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from asrkd.errors import CorpusError
from asrkd.sequence.grammar import _arpa, ngram

ARPA = "\\data\\\nngram 1=4\n\n\\1-grams:\n-1.0\t<s>\n-0.5\tcaf\u00e9\n-0.5\ta\u2028\u00a0b\n-1.0\t</s>\n\n\\end\\\n"


def test_words_are_read_in_the_composed_form(tmp_path: Path) -> None:
    words = ["<s>", "caf\u00e9", "a\u2028\u00a0b", "</s>"]
    for content, changed in (
        (ARPA.encode(), False),
        (ARPA.replace("\n", "\r\n").encode(), True),
        (b"\xef\xbb\xbf" + ARPA.encode(), True),
        (ARPA.replace("\u00e9", "e\u0301").encode(), True),
    ):
        (tmp_path / "lm.arpa").write_bytes(content)
        assert _arpa(tmp_path / "lm.arpa") == (words, changed)


def test_files_that_are_not_arpa_are_refused_with_the_line(tmp_path: Path) -> None:
    for content, message in (
        (ARPA.encode("utf-16"), "line 1 is not UTF-8"),
        (b"a b\n", "has no line .data."),
        (ARPA.replace("a\u2028\u00a0", "").encode("latin-1"), "line 6 is not UTF-8"),
    ):
        (tmp_path / "lm.arpa").write_bytes(content)
        with pytest.raises(CorpusError, match=message):
            _arpa(tmp_path / "lm.arpa")


def test_an_arpa_in_another_form_gives_the_same_grammar(tmp_path: Path) -> None:
    pytest.importorskip("k2")
    pytest.importorskip("kaldilm")
    (tmp_path / "a.arpa").write_bytes(ARPA.encode())
    (tmp_path / "b.arpa").write_bytes(
        b"\xef\xbb\xbf" + ARPA.replace("\u00e9", "e\u0301").replace("\n", "\r\n").encode()
    )
    words = ["caf\u00e9", "a\u2028\u00a0b"]
    assert str(ngram(tmp_path / "a.arpa", words)) == str(
        ngram(tmp_path / "b.arpa", [words[0].replace("\u00e9", "e\u0301"), words[1]])
    )
