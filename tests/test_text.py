from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd import text
from asrkd.errors import CorpusError, StoreError

unicode = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Everything that Python's own splitlines splits at, and what is near to it.
odd = st.sampled_from(list("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\ufeff\t \xa0\u3000a\"'\\\0"))
texts = unicode | st.lists(odd, max_size=12).map("".join)
values = st.recursive(
    texts | st.integers() | st.none() | st.booleans(), lambda x: st.lists(x) | st.dictionaries(texts, x)
)


@given(texts, st.booleans())
def test_a_stream_of_lines_is_the_lines_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, content: str, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("text") / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    whole = text.lines(text.decode_utf8(content.encode(), what="a"))
    assert list(text.stream(path)) == list(enumerate(whole, 1))
    kept = [line for _, line in text.stream(path, ends=True)]
    assert "".join(kept) == content.removeprefix("\ufeff")


@pytest.mark.slow
@given(st.lists(values, max_size=5), st.booleans())
def test_json_lines_are_read_as_they_were_written(rows: list[object], escaped: bool) -> None:
    data = "".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows).encode()
    assert text.json_lines(data, what="a") == rows
    assert text.json_lines(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"), what="a") == rows


@given(texts)
def test_words_are_separated_by_blanks_tabs_and_line_ends_alone(content: str) -> None:
    words = text.words(content)
    assert all(word and not set(word) & set(" \t\r\n") for word in words)
    assert "".join(words) == "".join(sign for sign in content if sign not in " \t\r\n")


def test_files_that_are_damaged_are_refused_with_the_line(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"a": 1}\n' * 10_000)
    for content, message in (
        (whole[: len(whole) // 2], "cannot be unpacked .*cut short or damaged"),
        (whole[:30] + b"\0\0" + whole[32:], "cannot be unpacked"),
        (b'{"a": 1}\n', "cannot be unpacked .Not a gzipped file"),
    ):
        (tmp_path / "a.gz").write_bytes(content)
        with pytest.raises(StoreError, match=message):
            list(text.stream(tmp_path / "a.gz", error=StoreError))
    (tmp_path / "a").write_bytes(b"one\ntw\xe9o\n")
    with pytest.raises(CorpusError, match="table '.*a' line 2 is not UTF-8 .*0xe9"):
        list(text.stream(tmp_path / "a", what="table"))
    for path, message in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(CorpusError, match=message):
            list(text.stream(path))


def test_lines_that_end_by_carriage_returns_are_not_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"u a\r\r\n\r\nv b\r\n")
    assert [number for number, _ in text.numbered_lines(tmp_path / "a")] == [1, 3]
    (tmp_path / "a").write_bytes(b"u a\n\nv b\rw c\r")
    with pytest.raises(CorpusError, match="line 3 holds a carriage return"):
        list(text.numbered_lines(tmp_path / "a"))


@pytest.mark.parametrize(
    ("line", "reason"), [("{", "Expecting property name"), ("[" * 100_000, "recursion"), ("01", "Extra")]
)
def test_a_line_that_is_not_json_is_named(line: str, reason: str) -> None:
    with pytest.raises(CorpusError, match=f"a line 3 is not JSON .*{reason}"):
        text.json_lines(f"1\n\n{line}\n2\n".encode(), what="a")
