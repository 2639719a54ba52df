from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import CorpusError

# Not surrogates, which no UTF-8 file can hold, nor a mark that starts a file.
symbols = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=1, max_size=4)
names = symbols.filter(lambda x: x.split() == [x])


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_reads_kaldis_form(tmp_path: Path) -> None:
    path = write(tmp_path / "lexicon.txt", "yes\tY EH S\n\nno N OW\r\nyes Y AE\nyes Y EH S\nслово s l\n")
    lexicon = Lexicon.read(path)
    assert lexicon.words == ["yes", "no", "слово"]
    assert lexicon.pronunciations["yes"] == (("Y", "EH", "S"), ("Y", "AE"))
    assert lexicon.phones == ["AE", "EH", "N", "OW", "S", "Y", "l", "s"]
    assert lexicon.spell(" no  yes ") == [(("N", "OW"),), (("Y", "EH", "S"), ("Y", "AE"))]
    assert lexicon.spell("") == []


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path) -> None:
    assert Lexicon.read(write(tmp_path / "a", b"\xef\xbb\xbfyes Y\n")).words == ["yes"]


@given(st.lists(st.tuples(names, st.lists(names, min_size=1, max_size=3)), min_size=1, max_size=6))
def test_what_is_written_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, list[str]]]
) -> None:
    lexicon = Lexicon.from_pairs(pairs)
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.txt"
    lexicon.write(path)
    read = Lexicon.read(path)
    assert read == lexicon and read.words == lexicon.words


def test_files_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="none.txt' cannot be read"):
        Lexicon.read(tmp_path / "none.txt")
    with pytest.raises(CorpusError, match="latin' is not UTF-8"):
        Lexicon.read(write(tmp_path / "latin", "é E\n".encode("latin-1")))
    with pytest.raises(CorpusError, match="line 3: word 'no' has no phones"):
        Lexicon.read(write(tmp_path / "short", "yes Y\n\nno\n"))
    with pytest.raises(CorpusError, match="no words"):
        Lexicon.read(write(tmp_path / "empty", "\n \n"))


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("two words", ["T"]), "'two words'"),
        (("", ["T"]), "''"),
        (("a", ["B C"]), "'B C' .word 'a'"),
        (("a", []), "'a' has no phones"),
    ],
)
def test_pairs_that_no_file_could_hold_are_refused(pair: tuple[str, list[str]], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        Lexicon.from_pairs([pair])


def test_a_word_outside_is_refused_with_its_transcript() -> None:
    lexicon = Lexicon.from_pairs([("yes", ["Y"])])
    with pytest.raises(CorpusError, match="cut 'c': word 'no' is not in the lexicon of 1 words, so 'yes no'"):
        lexicon.spell("yes no", what="cut 'c'")
