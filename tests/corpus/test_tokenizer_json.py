"""Pieces of a tokenizer.json: ids are those of the package tokenizers; what it leaves out, or has no piece for, is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.spelling import CannotSpell
from asrkd.corpus.tokenizer import (
    read_tokenizer,
    spell,
    tokenizer_fingerprint,
    tokenizer_from_dict,
    tokenizer_to_dict,
    vocabulary,
)
from asrkd.corpus.tokenizer_json import TokenizerJson
from asrkd.errors import ConfigError, CorpusError

tokenizers = pytest.importorskip("tokenizers")
WORDS = ["the", "then", "there", "straße", "low", "lower", "lowest", "up", "high", "42", "你好"]
ALPHABET = sorted(set("".join(WORDS)))
TEXTS = st.lists(st.text(ALPHABET, min_size=1, max_size=6) | st.sampled_from(WORDS), max_size=6).map(" ".join)
FOREIGN = st.sampled_from("xyzXß!é日")


def trained(kind: str) -> Any:
    """A small tokenizer of a kind, with a token `<pad>`."""
    from tokenizers import decoders, models, pre_tokenizers, trainers

    unknown = None if kind in ("silent", "bytes") else "<unk>"
    special = ["<pad>", *([unknown] if unknown else [])]
    if kind == "unigram":
        made = tokenizers.Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(vocab_size=40, special_tokens=special, unk_token=unknown, show_progress=False)
    else:
        made = tokenizers.Tokenizer(models.BPE(unk_token=unknown))
        alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "bytes" else []
        trainer = trainers.BpeTrainer(
            vocab_size=320 if alphabet else 50, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    by_bytes = kind == "bytes"
    made.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False) if by_bytes else pre_tokenizers.Metaspace()
    )
    made.decoder = decoders.ByteLevel() if by_bytes else decoders.Metaspace()
    made.train_from_iterator([" ".join(WORDS)] * 20, trainer)
    return made


MADE = {kind: trained(kind) for kind in ("bpe", "silent", "unigram", "bytes")}


def read(kind: str, folder: Path) -> TokenizerJson:
    MADE[kind].save(str(folder / "tokenizer.json"))
    return TokenizerJson.read(str(folder))


@pytest.mark.parametrize("kind", MADE)
@settings(max_examples=40)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_ids_are_those_of_the_package_and_are_read_back(
    kind: str, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = read(kind, tmp_path_factory.mktemp(kind))
    for said in texts:
        words = tokenizer.encode(said)
        ids = [number for spellings in words for number in spellings[0]]
        assert ids == MADE[kind].encode(said, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == said == tokenizer.decode([tokenizer.tokens.index("<blk>"), *ids])
        if kind != "bytes":  # which is one part by bytes
            assert [tokenizer.decode(word[0]) for word in words] == said.split()


@pytest.mark.parametrize("kind", ["bpe", "silent", "unigram"])
@given(said=TEXTS, foreign=FOREIGN.filter(lambda one: one not in ALPHABET), place=st.integers(0, 40))
@settings(max_examples=30)
def test_a_character_without_a_piece_is_named(
    kind: str, said: str, foreign: str, place: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = read(kind, tmp_path_factory.mktemp(kind))
    with pytest.raises(CannotSpell) as error:
        tokenizer.encode(said[:place] + foreign + said[place:], what="utterance 'a'")
    assert foreign in "".join(error.value.missing) and str(error.value).startswith("utterance 'a': ")


@pytest.mark.parametrize("said", ["<pad>", "low <unk> up", "lo▁w"])
def test_tokens_that_spell_nothing_are_no_text(said: str, tmp_path: Path) -> None:
    with pytest.raises(CannotSpell):
        read("bpe", tmp_path).encode(said)


def test_specs_checkpoints_and_units(tmp_path: Path) -> None:
    by_class = read("bpe", tmp_path)
    for spec in (f"tokenizers:{tmp_path}", str(tmp_path), str(tmp_path / "tokenizer.json")):
        tokenizer = read_tokenizer(spec)
        assert tokenizer.tokens == by_class.tokens and spell(tokenizer, "the low")
        assert tokenizer_fingerprint(spec) == tokenizer_fingerprint(str(tmp_path))
    held = json.loads(json.dumps(tokenizer_to_dict(tokenizer)))
    kept = tokenizer_from_dict(held)
    assert kept == tokenizer and kept.encode("the low") == tokenizer.encode("the low")  # type: ignore[union-attr]
    units = Inventory.from_lexicon(tokenizer, "ctc").units
    assert units[0] == "<blk>" and set(units) == set(tokenizer.tokens) and "<pad>" not in units
    assert len(vocabulary(tokenizer)) == len(units) - 1


def test_the_blank_is_the_pad_token_that_the_config_names(tmp_path: Path) -> None:
    read("bpe", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "<unk>"}')
    assert TokenizerJson.read(str(tmp_path)).tokens[:2] == ("<pad>", "<blk>")
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "[none]"}')
    with pytest.raises(ConfigError, match="needs a blank"):
        Inventory.from_lexicon(TokenizerJson.read(str(tmp_path)), "ctc")


@pytest.mark.parametrize("content", ["", "{}", "[1]", "no JSON", '{"model": {"type": "BPE"}}', "\x00"])
def test_files_that_are_no_tokenizer(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CorpusError) as error:
        read_tokenizer(str(tmp_path / "tokenizer.json"))
    assert "\n" not in str(error.value) and "tokenizer.json" in str(error.value)
