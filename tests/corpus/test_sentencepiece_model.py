"""Pieces of words: made from a corpus, read back, with SentencePiece's own ids; files that are not models are refused."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.sentencepiece_model import SentencePiece
from asrkd.corpus.spelling import CannotSpell
from asrkd.corpus.tokenizer import (
    decode_names,
    read_tokenizer,
    spell,
    tokenizer_fingerprint,
    tokenizer_from_dict,
    tokenizer_to_dict,
    vocabulary,
)
from asrkd.errors import CorpusError, MismatchError

sentencepiece = pytest.importorskip("sentencepiece")
WORDS = ["the", "then", "there", "straße", "low", "lower", "lowest", "up", "high", "don't", "42", "你好"]
ALPHABET = sorted(set("".join(WORDS)))
TEXTS = st.lists(st.text(ALPHABET, min_size=1, max_size=6) | st.sampled_from(WORDS), max_size=6).map(" ".join)


def trained(kind: str = "bpe", **changes: object) -> bytes:
    made, drawn = io.BytesIO(), random.Random(1)
    lines = [" ".join(drawn.choices(WORDS, k=5)) for _ in range(300)]
    options = {"vocab_size": 48, "character_coverage": 1.0, "normalization_rule_name": "identity", "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=made, model_type=kind, **(options | changes)
    )
    return made.getvalue()


ICEFALL = {"user_defined_symbols": ["<blk>", "<sos/eos>"], "unk_id": 2, "bos_id": -1, "eos_id": -1}
MODELS = {
    "bpe": trained(**ICEFALL),
    "unigram": trained("unigram", vocab_size=34, **ICEFALL),
    "plain": trained(),
    "bytes": trained(byte_fallback=True, vocab_size=320),
    "suffix": trained(treat_whitespace_as_suffix=True),
}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=25)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_ids_are_those_of_sentencepiece_and_are_read_back(name: str, texts: list[str]) -> None:
    tokenizer = SentencePiece.of(MODELS[name], name)
    own = sentencepiece.SentencePieceProcessor(model_proto=MODELS[name])
    for said in texts:
        words = tokenizer.encode(said)
        ids = [number for spellings in words for number in spellings[0]]
        assert ids == own.encode(said) and tokenizer.decode(ids) == said
        assert len(words) == len(said.split()) and all(len(spellings) == 1 for spellings in words)
        assert [decode_names(tokenizer, word[0]) for word in spell(tokenizer, said)] == said.split()
        # What spells nothing is not read.
        silent = [n for n in range(len(tokenizer.tokens)) if own.is_control(n) or own.is_unknown(n)]
        assert tokenizer.decode([*silent, *ids, *silent]) == said


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_kept_whole_by_a_checkpoint(name: str, tmp_path: Path) -> None:
    (tmp_path / "bpe.model").write_bytes(MODELS[name])
    tokenizer = read_tokenizer(f"sentencepiece:{tmp_path / 'bpe.model'}")
    assert tokenizer == read_tokenizer(str(tmp_path / "bpe.model"))
    kept = tokenizer_from_dict(tokenizer_to_dict(tokenizer))
    assert kept == tokenizer and kept.encode("the low") == tokenizer.encode("the low")  # type: ignore[union-attr]
    units = Inventory.from_lexicon(tokenizer, "ctc").units
    # In icefall the blank is a piece, so classes are pieces; otherwise it comes before them.
    assert units == (tokenizer.tokens if name in ("bpe", "unigram") else ("<blk>", *tokenizer.tokens))
    assert len(vocabulary(tokenizer)) == len(units) - 1


def test_what_cannot_be_spelled_is_named() -> None:
    tokenizer = SentencePiece.of(MODELS["bpe"], "m")
    for said, missing in (("the xyz low", ("x", "y", "z")), ("up <blk>", ("<blk>",)), ("the▁low", ("▁",))):
        with pytest.raises(CannotSpell) as error:
            tokenizer.encode(said, what="cut 'a'")
        assert error.value.missing == missing and str(error.value).startswith(f"cut 'a': {missing[0]!r}")
    # Pieces of bytes spell anything.
    anything = SentencePiece.of(MODELS["bytes"], "m")
    assert anything.decode([n for word in anything.encode("xyz é") for n in word[0]]) == "xyz é"


@pytest.mark.parametrize("name", MODELS)
def test_no_part_of_a_model_is_one(name: str, tmp_path: Path) -> None:
    content = MODELS[name]
    for size in {*range(0, len(content), 7), *range(len(content) - 300, len(content))}:
        with pytest.raises(CorpusError, match="is not a SentencePiece model, or is cut short"):
            SentencePiece.of(content[:size], "SentencePiece model 'bpe.model'")


@settings(max_examples=25)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_other_files_are_none(content: bytes) -> None:
    with pytest.raises(CorpusError, match="'bpe.model' is not a SentencePiece model") as error:
        SentencePiece.of(content, "SentencePiece model 'bpe.model'")
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.model").mkdir()
    for path in (tmp_path / "none.model", tmp_path / "folder.model"):
        with pytest.raises(CorpusError, match="cannot be read|neither tokens.txt"):
            read_tokenizer(str(path))
        with pytest.raises(CorpusError):
            tokenizer_fingerprint(str(path))


def lang(folder: Path, tokens: list[str], **content: str | bytes) -> Path:
    folder.mkdir()
    (folder / "tokens.txt").write_text("".join(f"{token} {n}\n" for n, token in enumerate(tokens)))
    for name, value in content.items():
        path = folder / name.replace("_", ".")
        path.write_bytes(value if isinstance(value, bytes) else value.encode())
    return folder


def test_a_lang_folder_of_icefall(tmp_path: Path) -> None:
    pieces = SentencePiece.of(MODELS["bpe"], "m")
    lexicon = "!SIL SIL\n<UNK> <unk>\nthe ▁the\nlow ▁low\n"
    made = lang(tmp_path / "bpe", [*pieces.tokens, "#0", "#1"], bpe_model=MODELS["bpe"], lexicon_txt=lexicon)
    tokenizer = read_tokenizer(f"lang:{made}")
    assert tokenizer == read_tokenizer(str(made)) == read_tokenizer(str(made / "tokens.txt"))
    assert tokenizer.tokens == pieces.tokens and tokenizer.words == ("the", "low")
    assert tokenizer.encode("lower up") == pieces.encode("lower up")
    assert tokenizer_from_dict(tokenizer_to_dict(tokenizer)) == tokenizer
    assert list(vocabulary(tokenizer)) == ["the", "low"]
    before = tokenizer_fingerprint(f"lang:{made}")
    (made / "lexicon.txt").write_text("the ▁the\n")
    assert tokenizer_fingerprint(f"lang:{made}") != before
    # Another table under the same model.
    other = lang(tmp_path / "other", [*pieces.tokens[:-2], *pieces.tokens[:-3:-1]], bpe_model=MODELS["bpe"])
    with pytest.raises(MismatchError, match="tokens.txt and bpe.model are of different tokenizers .id 46 is"):
        read_tokenizer(f"lang:{other}")
    short = lang(tmp_path / "short", list(pieces.tokens[:-1]), bpe_model=MODELS["bpe"])
    with pytest.raises(MismatchError, match="47 tokens and 48 pieces"):
        read_tokenizer(f"lang:{short}")


def test_a_lang_folder_of_phones_or_characters(tmp_path: Path) -> None:
    phones = lang(tmp_path / "phone", ["<eps>", "SIL", "SPN", "b", "a", "#0"], lexicon_txt="!SIL SIL\nab a b\nab b\n")
    tokenizer = read_tokenizer(f"lang:{phones}")
    assert tokenizer.tokens == ("<blk>", "SIL", "SPN", "b", "a") and tokenizer.encode("ab") == [[(4, 3), (3,)]]
    assert Inventory.from_lexicon(tokenizer, "ctc").units == tokenizer.tokens
    assert Inventory.from_lexicon(tokenizer, "hmm", states_per_phone=1).units == ("SIL", "SPN_0", "b_0", "a_0")
    assert tokenizer_from_dict(tokenizer_to_dict(tokenizer)) == tokenizer
    # Phones of one letter each are not the characters of the words.
    assert tokenizer.kind == "lexicon"
    characters = lang(
        tmp_path / "char", ["<blk>", "<sos/eos>", "<unk>", "你", "好"], lexicon_txt="<UNK> <unk>\n你好 你 好\n"
    )
    assert read_tokenizer(f"lang:{characters}").encode("好你") == [[(4, 3)]]
    foreign = lang(tmp_path / "foreign", ["<blk>", "aa"], lexicon_txt="ab aa bb\n")
    with pytest.raises(MismatchError, match="lexicon has 1 tokens that its table has not, the first 'bb'"):
        read_tokenizer(f"lang:{foreign}")
    pieces = lang(tmp_path / "pieces", ["<blk>", "▁the", "n"])
    with pytest.raises(CorpusError, match="neither bpe.model nor lexicon.txt, and its tokens are not characters"):
        read_tokenizer(f"lang:{pieces}")


def test_a_lang_folder_of_kaldi(tmp_path: Path) -> None:
    table = ["<eps>", "SIL", "SIL_S", *(f"{p}_{place}" for p in ("AA", "B") for place in "BEIS"), "#0", "#1", "#2"]
    (tmp_path / "phones").mkdir()
    (tmp_path / "phones.txt").write_text("".join(f"{token} {n}\n" for n, token in enumerate(table)))
    align = "<eps> SIL\n!SIL !SIL SIL_S\nab ab AA_B B_E\nbab bab B_B AA_I B_E\na a AA_S\n"
    (tmp_path / "phones/align_lexicon.txt").write_text(align)
    tokenizer = read_tokenizer(str(tmp_path))
    assert tokenizer.tokens == ("<blk>", *table[1:-3])
    assert spell(tokenizer, "ab a") == [[("AA_B", "B_E")], [("AA_S",)]]
    units = Inventory.from_lexicon(tokenizer, "hmm", states_per_phone=1).units
    assert units[:3] == ("SIL", "SIL_S_0", "AA_B_0") and len(units) == len(table) - 4
    # From a lexicon without places the same.
    (tmp_path / "phones/align_lexicon.txt").unlink()
    with pytest.raises(CorpusError, match="neither phones/align_lexicon.txt.* nor lexicon.txt"):
        read_tokenizer(str(tmp_path))
    (tmp_path / "lexicon.txt").write_text("!SIL SIL\nab AA B\nbab B AA B\na AA\n")
    again = read_tokenizer(str(tmp_path / "phones.txt"))
    assert [spell(again, word) for word in ("ab", "bab", "a", "!SIL")] == [
        spell(tokenizer, word) for word in ("ab", "bab", "a", "!SIL")
    ]


@pytest.mark.parametrize("name", ["empty", "none"])
def test_a_lang_folder_without_a_table(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=f"{name}'.*neither tokens.txt .icefall. nor phones.txt .Kaldi."):
        read_tokenizer(f"lang:{tmp_path / name}")
