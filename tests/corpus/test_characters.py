"""Characters: spelled and read back, with the ids of their table; tables that are none are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd import text
from asrkd.corpus.characters import Characters, table_of_characters
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.spelling import CannotSpell, check_spelling
from asrkd.corpus.tokenizer import TOKENIZERS, decode_names, read_tokenizer, tokenizer_fingerprint
from asrkd.corpus.topology import BLANK
from asrkd.errors import ConfigError, CorpusError, MismatchError

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁|")).map(
    lambda said: said.replace("\ufeff", "x")
)


@given(st.lists(TEXTS, min_size=1), st.sampled_from(["▁", "|", "<space>"]))
def test_what_is_spelled_is_read_back(texts: list[str], boundary: str) -> None:
    known = {character for said in texts for word in text.words(said) for character in word}
    tokenizer = Characters((BLANK, "<unk>", boundary, *sorted(known)), boundary)
    for said in texts:
        ids = [number for spellings in tokenizer.encode(said) for number in spellings[0]]
        assert tokenizer.decode(ids) == " ".join(text.words(said))
        # Blanks spell nothing, wherever they are.
        assert tokenizer.decode([0, *(part for number in ids for part in (number, 0, 1))]) == tokenizer.decode(ids)
        assert decode_names(tokenizer, [tokenizer.tokens[number] for number in ids]) == tokenizer.decode(ids)
    assert TOKENIZERS["characters"].load(tokenizer.to_dict()) == tokenizer


@given(st.lists(TEXTS, min_size=1).filter(lambda texts: any(map(text.words, texts))))
def test_a_table_of_a_corpus_spells_it(texts: list[str]) -> None:
    tokenizer = Characters.of(table_of_characters(texts))
    assert [tokenizer.decode([n for word in tokenizer.encode(said) for n in word[0]]) for said in texts] == [
        " ".join(text.words(said)) for said in texts
    ]
    assert Inventory.from_lexicon(tokenizer, "ctc").units == tokenizer.tokens


def table(path: Path, *tokens: str) -> Path:
    path.write_text("".join(f"{token} {number}\n" for number, token in enumerate(tokens)))
    return path


def test_case_digits_and_boundaries_are_as_they_are(tmp_path: Path) -> None:
    read = read_tokenizer(f"characters:{table(tmp_path / 'tokens.txt', '<blk>', '▁', 'A', 'a', '4', '#0', '#1')}")
    assert read.tokens == ("<blk>", "▁", "A", "a", "4") and read.words is None
    assert read.encode("aA 4a") == [[(1, 3, 2)], [(1, 4, 3)]]
    # A table of Mandarin has no boundary.
    assert Characters.of(("<blk>", "你", "好")).decode([1, 2, 0]) == "你好"
    with pytest.raises(CannotSpell, match=r"cut 'x': 'bab#' has 'b', '#', not among the 3 characters"):
        read.encode("a bab#", what="cut 'x'")
    # A token of several characters spells nothing by itself.
    with pytest.raises(CannotSpell):
        read.encode("<blk>")
    with pytest.raises(MismatchError, match="'b' is not among the 5 tokens"):
        decode_names(read, ["a", "b"])


@pytest.mark.parametrize("topology", ["ctc", "hmm"])
def test_the_blank_is_the_first_class_whatever_its_id(tmp_path: Path, topology: str) -> None:
    read = read_tokenizer(f"characters:{table(tmp_path / 't', 'a', '▁', 'b', '<blank>')}")
    units = Inventory.from_lexicon(read, topology, states_per_phone=1).units
    assert read.tokens[3] == BLANK
    assert units == (("<blk>", "a", "▁", "b") if topology == "ctc" else ("SIL", "a_0", "▁_0", "b_0"))


def test_ids_are_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    names = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAN'#"]
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({token: number for number, token in enumerate(names)}))
    own = transformers.Wav2Vec2CTCTokenizer(str(path))
    read = read_tokenizer(f"vocab:{path}")
    assert read == read_tokenizer(str(path)) and read.kind == "characters"
    for said in ("TEA", "A TEA  'TEN # ' N", ""):
        ids = [number for spellings in read.encode(said) for number in spellings[0]]
        assert ids == own(" ".join(text.words(said))).input_ids
        blanked = [part for number in ids for part in (number, 0)]
        assert read.decode(ids) == own.decode(blanked)
    # What save_pretrained writes names the special tokens.
    other = transformers.Wav2Vec2CTCTokenizer(str(path), pad_token="#", word_delimiter_token="E")
    other.save_pretrained(tmp_path / "other")
    assert read_tokenizer(str(tmp_path / "other/vocab.json")).tokens[names.index("#")] == BLANK
    assert read_tokenizer(str(tmp_path / "other/vocab.json")).encode("T A") == [[(6,)], [(5, 7)]]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("a 0\nb 0\n", "id 0 is that of 'a' and of 'b'"),
        ("a 0\na 1\n", "token 'a' has the ids 0 and 1"),
        ("a 0\nb 2\n", "ids up to 2, but none for 1"),
        ("a 1\n", "none for 0"),
        ("a 0\nb 999999999\n", "ids up to 999999999"),
        ("a\n", "line 1 is 'a', but a line is a token and its id"),
        ("a 0\nb -1\n", "line 2 is 'b -1'"),
        ("a 0\nb c 1\n", "line 2"),
        ("a 0\nb 1.0\n", "line 2"),
        ("", "has no tokens"),
        ("#0 0\na 1\n", "disambiguation symbol '#0' has an id below"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, lines: str, why: str) -> None:
    (tmp_path / "tokens.txt").write_text(lines)
    with pytest.raises(CorpusError) as error:
        read_tokenizer(f"characters:{tmp_path / 'tokens.txt'}")
    assert why in str(error.value) and "tokens.txt" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('["a", "b"]', "must be a map of tokens to ids, not a list"),
        ('{"a": 0, "b": "1"}', "token 'b' has a string ('1') in place of an id"),
        ('{"a": 0, "b": true}', "token 'b' has bool (True)"),
        ('{"a": 0, "b": 1.5}', "token 'b' has float (1.5)"),
        ('{"a": 0, "b": -1}', "token 'b'"),
        ('{"eng": {"a": 0}}', "vocabularies by language"),
        ('{"a": 0, "a": 1}', "token 'a' has the ids 0 and 1"),
        ('{"a": 0, "b": 0}', "id 0 is that of 'a' and of 'b'"),
        ('{"a": 0, "b": 2}', "none for 1"),
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("{}", "has no tokens"),
        ('"a"', "not a string"),
        ("3", "not int"),
    ],
)
def test_vocabularies_that_are_none(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "vocab.json").write_text(content)
    with pytest.raises(CorpusError) as error:
        read_tokenizer(f"vocab:{tmp_path / 'vocab.json'}")
    assert why in str(error.value) and "vocab.json" in str(error.value) and "\n" not in str(error.value)


def test_a_table_without_blank_is_none_of_ctc(tmp_path: Path) -> None:
    read = read_tokenizer(f"characters:{table(tmp_path / 't', '▁', 'a')}")
    with pytest.raises(ConfigError, match="'ctc' needs a blank, but among the 2 tokens"):
        Inventory.from_lexicon(read, "ctc")
    assert Inventory.from_lexicon(read, "hmm", states_per_phone=1).units == ("SIL", "▁_0", "a_0")


def test_transcripts_that_cannot_be_spelled_are_counted_and_the_first_ten_shown() -> None:
    tokenizer = Characters.of((BLANK, "▁", *"ab"))
    corpus = [(f"u{n}", "ab xa" if n % 2 else "ba") for n in range(40)]
    with pytest.raises(CorpusError) as error:
        check_spelling(iter(corpus), tokenizer.encode, what="source 'labeled'")
    said = str(error.value)
    assert said.startswith("source 'labeled': 20 of 40 transcripts cannot be spelled: 'u1' ('x'), 'u3' ('x')")
    assert "'u19' ('x') and others; without a token are 'x' in 20. The first: utterance 'u1': 'xa' has 'x'" in said
    assert "u21" not in said
    check_spelling(corpus[::2], tokenizer.encode, what="")


def test_a_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = tokenizer_fingerprint(f"characters:{table(tmp_path / 'a', '<blk>', 'a')}")
    assert first == tokenizer_fingerprint(f"characters:{table(tmp_path / 'b', '<blk>', 'a')}")
    assert first != tokenizer_fingerprint(f"characters:{table(tmp_path / 'c', '<blk>', 'b')}")
