"""Rows of tables against hand-made files, and any text that is written against what is read."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd.corpus.table_rows import table_rows
from asrkd.errors import CorpusError

COLUMNS = ("audio", "id", "text", "speaker")
# No file of UTF-8 holds surrogates, and NUL is refused.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    ['"', '""', ' "a"', "a\u2028b", "\x85", "\ufeff", "a\r", "\r\nb", "\x1c,\t", "'", "\\", "ナ\u0308"]
)


def read(folder: Path, name: str, content: str | bytes) -> list[tuple[int, dict[str, str]]]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(table_rows(path, COLUMNS))


@given(st.lists(st.tuples(texts.filter(str.strip), texts), min_size=1, max_size=5))
def test_a_written_csv_is_read_as_it_was(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("audio", "text"), *rows])
    assert [(row["audio"], row["text"]) for _, row in table_rows(path, COLUMNS)] == rows


# Fields that no tabs or line ends are in: the rest of Unicode is text.
plain = texts.map(lambda text: text.translate({9: None, 10: None}))


@given(st.lists(st.tuples(plain, plain), min_size=1, max_size=5))
def test_a_written_tsv_is_read_as_it_was(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    rows = [(f"a{audio}", f"{text}.") for audio, text in rows]
    content = "".join("\t".join(row) + "\n" for row in [("audio", "text"), *rows])
    found = read(tmp_path_factory.mktemp("table"), "table.tsv", content)
    assert [(row["audio"], row["text"]) for _, row in found] == rows


def test_quotation_marks_of_a_tsv_are_text(tmp_path: Path) -> None:
    content = 'audio\ttext\na\t"he said\nb\tfour"\nc\t"so"x\n'
    assert read(tmp_path, "c.tsv", content) == [
        (2, {"audio": "a", "text": '"he said'}),
        (3, {"audio": "b", "text": 'four"'}),
        (4, {"audio": "c", "text": '"so"x'}),
    ]


def test_fields_that_a_program_seems_to_have_quoted_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path, "c.tsv", 'audio\ttext\na\t"he ""said"""\nb\tno\n')[0][1]["text"] == '"he ""said"""'
    assert (
        "in 1 rows a field begins and ends with a quotation mark" in caplog.text
        and "save the table as .csv" in caplog.text
    )


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfaudio,text\r\na.wav,one two\r\n",
        b"\n\nAudio , TEXT\na.wav,one two",
        b"audio,text,,\n\na.wav,one two,,\n,,,\n",
        b'"audio","text"\n"a.wav","one two"\n',
    ],
)
def test_forms_of_one_csv(tmp_path: Path, content: bytes) -> None:
    assert [row for _, row in read(tmp_path, "c.csv", content)] == [{"audio": "a.wav", "text": "one two"}]


def test_rows_are_numbered_by_their_first_line_and_fields_may_be_long(tmp_path: Path) -> None:
    long = "x" * 300_000
    content = f'audio,text\r\na,"one\r\ntwo"\r\n\r\nb,"{long}"\r\nc,"he said ""hi"", twice"\r\n'
    assert read(tmp_path, "c.csv", content) == [
        (2, {"audio": "a", "text": "one\r\ntwo"}),
        (5, {"audio": "b", "text": long}),
        (6, {"audio": "c", "text": 'he said "hi", twice'}),
    ]
    assert read(tmp_path, "c.tsv", f"audio\ttext\na\t{long}\n")[0][1]["text"] == long


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", 'audio,text\na,"one\nb,two\nc,three\n', "lines 2 to 4: a quotation mark is not closed"),
        ("c.csv", 'audio,text\na,"one" two\n', "line 2: text follows a closing quotation mark"),
        ("c.csv", "audio,text\na,one\rb,two\n", "line 2: a carriage return is outside quotation marks"),
        ("c.csv", "audio,text\na,one, two\n", r"line 2 has 3 fields, but the header has 2 \(audio, text\)"),
        ("c.tsv", "audio\ttext\na\n", "line 2 has 1 fields, but the header has 2"),
        ("c.tsv", "audio\ttext\na\tb\tc\n", "line 2 has 3 fields"),
        ("c.csv", "audio,text,audio\na,b,c\n", "column 'audio' more than once"),
        ("c.csv", "audio,,text\na,,c\n", r"has the columns \['audio', '', 'text'\]"),
        ("c.csv", "audio;text\na;b\n", "separated by semicolons: a .csv is separated by commas"),
        ("c.csv", "audio\ttext\na\tb\n", "separated by tabs: a .csv is separated by commas"),
        ("c.tsv", "audio,text\na,b\n", "separated by commas: a .csv is separated by commas, a .tsv by tabs"),
        ("c.tsv", '"audio"\t"text"\na\tb\n', "Quotation marks are text there"),
        (
            "c.tsv",
            "client_id\tpath\tsentence\na\tb\tc\n",
            r"columns \['client_id', 'path', 'sentence'\]; it needs 'audio'",
        ),
        ("c.tsv", "", "is empty; its first line names the columns: audio, id, text, speaker"),
        ("c.tsv", "\n \n", "is empty"),
        ("c.tsv", "audio\ttext\na\tx\0\n", "line 2 holds a NUL byte"),
        ("c.tsv", "audio\ttext\na\té\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("c.tsv", "audio\ttext\n".encode("utf-16"), "line 1 is not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(CorpusError, match=message):
        read(tmp_path, name, content)


def test_a_csv_reads_the_same_whatever_limit_was_set(tmp_path: Path) -> None:
    before = csv.field_size_limit(10)
    try:
        assert read(tmp_path, "c.csv", f"audio\n{'x' * 100}\n")[0][0] == 2
    finally:
        csv.field_size_limit(before)
