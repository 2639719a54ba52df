"""What the tokenizers of `transformers` are as tokenizers of asrkd, which stores and checkpoints hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asrkd.corpus.characters import Characters
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.tokenizer import Tokenizer, with_rules
from asrkd.corpus.tokenizer_json import TokenizerJson
from asrkd.corpus.topology import BLANK


def text_tokenizer(tokenizer: Any, labels: Sequence[str], blank: int) -> Tokenizer | None:
    """The tokenizer of a model of transformers; None for one that spells neither by a `tokenizer.json` nor by characters, such as one of phones.

    Args:
        labels: the token of each class.
        blank: the class of the blank.
    """
    tokens = tuple(BLANK if number == blank else token for number, token in enumerate(labels))
    if getattr(tokenizer, "is_fast", False):
        return with_rules(TokenizerJson(tokens, tokenizer.backend_tokenizer.to_str()), TextRules())
    if type(tokenizer).__name__ != "Wav2Vec2CTCTokenizer":
        return None
    boundary = tokenizer.word_delimiter_token
    # Its do_lower_case spells text in upper case.
    rules = TextRules(case="upper") if tokenizer.do_lower_case else TextRules()
    return with_rules(Characters(tokens, boundary if boundary in tokens else ""), rules)
