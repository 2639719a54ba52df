"""Which tokens are figures."""

from __future__ import annotations

import pytest

from asrkd.text_teachers.numerals import numeral_tokens

TEXTS = ["16", " 8", "ounce", "B2B", "%", " $", "£5", "½", "٣", "٪x", "五", "〇", "sixteen", "-", " ", "", "�", "²"]


def test_figures_are_digits_fractions_currencies_and_percent() -> None:
    found = numeral_tokens(range(len(TEXTS)), lambda tokens: TEXTS[tokens[0]])
    assert [TEXTS[token] for token in found] == ["16", " 8", "B2B", "%", " $", "£5", "½", "٣", "²"]


def test_whisper_x_finds_the_same_among_ascii_tokens() -> None:
    """Against WhisperX's rule, of the same byte-level vocabulary."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = {symbol: number for number, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    model = Tokenizer(models.BPE(vocabulary, []))
    model.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=model)
    expected = [token for token in range(256) if any(one in "0123456789%$£" for one in tokenizer.decode([token]))]
    assert numeral_tokens(range(256), tokenizer.decode) == expected and len(expected) == 12
