from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.tokenizer import spell
from asrkd.errors import CorpusError

# Not surrogates, which no UTF-8 file can hold, nor a mark that starts a file.
symbols = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=1, max_size=4)
names = symbols.filter(lambda x: not set(x) & set(" \t\r\n"))


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_reads_kaldis_form(tmp_path: Path) -> None:
    path = write(tmp_path / "lexicon.txt", "yes\tY EH S\n\nno N OW\r\nyes Y AE\nyes Y EH S\nслово s l\n")
    lexicon = Lexicon.read(path)
    assert lexicon.words == ("yes", "no", "слово")
    assert lexicon.pronunciations["yes"] == (("Y", "EH", "S"), ("Y", "AE"))
    assert lexicon.tokens == ("AE", "EH", "N", "OW", "S", "Y", "l", "s")
    assert spell(lexicon, " no  yes ") == [[("N", "OW")], [("Y", "EH", "S"), ("Y", "AE")]]
    assert lexicon.encode("") == []


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path) -> None:
    assert Lexicon.read(write(tmp_path / "a", b"\xef\xbb\xbfyes Y\n")).words == ("yes",)


# Names that lexicon files use for something else, besides any others.
odd = st.sampled_from(
    [
        "#1",
        "#0",
        "#",
        "1.0",
        "0.5",
        "1",
        "SIL",
        "<eps>",
        "<blk>",
        ";;;",
        "a(2)",
        "a",
        "\u2028",
        "\xa0",
        "e\u0301",
        "\ufeff",
    ]
)
any_name = names | odd


@given(st.lists(st.tuples(any_name, st.lists(any_name, min_size=1, max_size=3)), min_size=1, max_size=6))
def test_what_is_written_is_read_as_it_was_or_refused(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, list[str]]]
) -> None:
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.txt"
    try:
        lexicon = Lexicon.from_pairs(pairs)
        lexicon.write(path)
    except CorpusError:
        assert list(path.parent.iterdir()) == []
        return
    read = Lexicon.read(path)
    assert read == lexicon and read.words == lexicon.words
    assert [path.name for path in path.parent.iterdir()] == ["lexicon.txt"]
    for word, phones in pairs:
        assert tuple(phones) in spell(lexicon, word)[0]


KA = Lexicon.from_pairs([("ka", ["k", "a"]), ("to", ["t", "o"]), ("ka", ["g", "a"])])


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "lexiconp.txt",
            "ka 1.0 k a\nto 1 t o\nka\t0.3\tg a\n",
            "probabilities of pronunciations .lexiconp.txt. are not used",
        ),
        ("lexiconp.txt", "ka 1 k a\nto 1 t o\nka 1 g a\n", "are not used"),
        ("lex.txt", "ka 1.0 k a\nto 0.7 t o\nka .3 g a\n", "are not used"),
        (
            "lex.txt",
            "ka 1.0 0.5 1.1 0.9 k a\nto 1 1 0.5 1.8 t o\nka 0.3 .2 1 1.0 g a\n",
            "lexiconp_silprob.txt. are not used",
        ),
        ("lex.txt", "ka k a #1\nto t o\nka g a #2\n", "disambiguation symbols were left out of 2 lines"),
        (
            "lex.txt",
            ";;; ka x y\nka k a # a word\nto t o #2 # Note: to\nka(2) g a\n",
            "1 lines of comments .*left out of 2 lines.*alternatives",
        ),
        ("lex.txt", "\ufeffka\tk a\r\n\r\nto  t\to\r\nka g a\r\nka g a", ""),
    ],
)
def test_dialects(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, content: str, told: str) -> None:
    assert Lexicon.read(write(tmp_path / name, content)) == KA
    assert len(caplog.records) == bool(told) and re.search(told, caplog.text)


def test_what_only_looks_like_a_dialect_is_kept(tmp_path: Path) -> None:
    # Digits as phones, word-position-dependent phones, stress, a word in brackets whose base is not a word, hashtags.
    content = "a 1 2\nb 2\nc k_B ae1_I t_E\nf(2) f_S\n#one w n\n<unk> SPN\n!SIL SIL\n; s\n"
    assert dict(Lexicon.read(write(tmp_path / "lex.txt", content)).pronunciations) == {
        "a": (("1", "2"),),
        "b": (("2",),),
        "c": (("k_B", "ae1_I", "t_E"),),
        "f(2)": (("f_S",),),
        "#one": (("w", "n"),),
        "<unk>": (("SPN",),),
        "!SIL": (("SIL",),),
        ";": (("s",),),
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("lex.txt", "ka 1.0 k a\nto t o\n", "line 1: '1.0' of word 'ka' looks like a probability"),
        ("lex.txt", "ka k a\nto 0.5 t o\n", "line 2: '0.5' of word 'to' looks like a probability"),
        ("lex.txt", "ka 1 k a\nto 1 t o\n", "'1' after every word, which may be a probability or a phone"),
        ("lex.txt", "ka 1.5 k a\nto 0.5 t o\n", "line 1: word 'ka' has the probability 1.5, which is not in"),
        ("lex.txt", "ka 0.5 k a\nto 0.0 t o\n", "line 2: word 'to' has the probability 0.0"),
        ("lex.txt", "ka 0.5 0.5 k a\nto 0.5 0.5 t o\n", "has 2 columns of numbers"),
        (
            "lexiconp.txt",
            "ka 1.0 k a\nto t o\n",
            "line 2: word 'to' has 't o' behind it, where the file's name promises 1",
        ),
        ("lexiconp_silprob.txt", "ka 1.0 k a\n", "line 1: word 'ka' has '1.0 k a' behind it, .* promises 4"),
        ("lex.txt", "ka #1\n", "line 1: word 'ka' has no phones"),
        ("lex.txt", "ka k #1 a\n", "line 1: '#1' .word 'ka'. is the name of"),
        ("lex.txt", "# a lexicon\nka k a\n", "line 1 has the sign '#' for itself"),
        ("lex.txt", "ka k a #\n", "line 1 has the sign '#' for itself"),
        ("lex.txt", "ka k a #comment\n", "line 1: '#comment' .word 'ka'. is the name of .* a comment"),
        ("lex.txt", "ka k a\n<eps> k\n", "line 2: the word '<eps>' is a symbol"),
        ("lex.txt", "ka <blk> a\n", "line 1: '<blk>'"),
        ("lex.txt", "ka \u00e3\nto a\u0303\n", r"phones 'a\\u0303' and '\\xe3' look the same"),
        ("lex.txt", ";;; none\n", "lex.txt' has no words"),
    ],
)
def test_what_can_be_taken_in_two_ways_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        Lexicon.read(write(tmp_path / name, content))


def test_words_are_looked_up_in_the_composed_form(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lexicon = Lexicon.read(write(tmp_path / "lex.txt", "cafe\u0301 k a f e\ncaf\u00e9 k a f\n"))
    assert lexicon.words == ("caf\u00e9",) and len(lexicon.pronunciations["caf\u00e9"]) == 2
    assert "1 words were put into Unicode's composed form" in caplog.text
    assert spell(lexicon, "cafe\u0301 caf\u00e9") == [list(lexicon.pronunciations["caf\u00e9"])] * 2


def test_files_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="none.txt' cannot be read"):
        Lexicon.read(tmp_path / "none.txt")
    with pytest.raises(CorpusError, match="latin' line 1 is not UTF-8"):
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
        lexicon.encode("yes no", what="cut 'c'")
