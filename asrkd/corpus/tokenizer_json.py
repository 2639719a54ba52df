"""Pieces of words by a `tokenizer.json`, the file of the package tokenizers, as the tokenizers of transformers are saved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from asrkd import text
from asrkd.corpus.characters import WORD_BEGIN
from asrkd.corpus.spelling import CannotSpell
from asrkd.corpus.token_table import SPECIAL, in_order, setting_beside, with_blank
from asrkd.errors import CorpusError
from asrkd.extras import import_optional

FILE = "tokenizer.json"
# Signs that begin words: SentencePiece's, and that of byte-level BPE.
_BEGINS = (WORD_BEGIN, "Ġ")


@dataclass(frozen=True)
class TokenizerJson:
    """Pieces of a `tokenizer.json`: BPE, unigram or WordPiece, with its own normalization.

    Attributes:
        tokens: in the order of its ids, the blank named `<blk>`; of a teacher those that it has a class for.
        content: of the file.
    """

    tokens: tuple[str, ...]
    content: str = field(repr=False)
    words: ClassVar[None] = None
    complete: ClassVar[bool] = True
    kind: ClassVar[str] = "tokenizers"

    @classmethod
    def read(cls, path: str) -> TokenizerJson:
        """Of the file, or of a folder that it is in; the blank is the `pad_token` of a `tokenizer_config.json` next to it, and otherwise known by its name.

        Raises:
            CorpusError: it cannot be read, or is not such a file.
            DependencyError: tokenizers is not installed.
        """
        file = Path(path) / FILE if Path(path).is_dir() else Path(path)
        what = f"tokenizer {str(file)!r}"
        content = text.read(file, what="tokenizer")
        tokens = in_order(_made(content, what).get_vocab(with_added_tokens=True).items(), what)
        return cls(with_blank(tokens, what, pad=str(setting_beside(file, "pad_token") or "")), content)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TokenizerJson:
        """The inverse of `to_dict`."""
        return cls(tuple(values["tokens"]), values["content"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a checkpoint."""
        return {"tokens": list(self.tokens), "content": self.content}

    @cached_property
    def _made(self) -> Any:
        return _made(self.content, FILE)

    @cached_property
    def _silent(self) -> frozenset[int]:
        """Ids that no text has: of special tokens, and of the one for unknown text."""
        added = json.loads(self.content).get("added_tokens") or []
        special = {one["id"] for one in added if one.get("special")}
        named = {number for number, token in enumerate(self.tokens) if token in SPECIAL}
        return frozenset(special | named | ({self._unknown} if self._unknown is not None else set()))

    @cached_property
    def _unknown(self) -> int | None:
        model = json.loads(self.content)["model"]
        if model.get("unk_id") is not None:
            return int(model["unk_id"])
        number: int | None = self._made.token_to_id(model["unk_token"]) if model.get("unk_token") else None
        return number

    @cached_property
    def _characters(self) -> frozenset[str] | None:
        """The characters that have a token, of BPE that leaves out the others without a sign; None where nothing is left out."""
        model = json.loads(self.content)["model"]
        affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
        if model.get("type") != "BPE" or self._unknown is not None or model.get("byte_fallback") or affixes:
            return None
        return frozenset(token for token in self._made.get_vocab() if len(token) == 1)

    def encode(self, transcript: str, *, what: str = "transcript") -> list[list[tuple[int, ...]]]:
        """The pieces of each word; all together they are those of the package for the transcript.

        Raises:
            CannotSpell: a character for which there is no piece.
            DependencyError: tokenizers is not installed.
        """
        found = self._made.encode(transcript, add_special_tokens=False)
        missing = list(dict.fromkeys(self._missing(transcript, found)))
        if missing:
            raise CannotSpell(
                f"{what}: {', '.join(map(repr, missing))} cannot be spelled with the {len(self.tokens)} pieces of the tokenizer, so {transcript!r} cannot; "
                "normalize the text (inventory.text), or leave out the cut",
                missing,
            )
        return [[tuple(word)] for word in self._by_word(found)]

    def _missing(self, transcript: str, found: Any) -> Iterator[str]:
        """What has no piece of its own, or has one that the model has no class for."""
        if WORD_BEGIN in transcript and any(WORD_BEGIN in token for token in self.tokens):  # it means a space there
            yield WORD_BEGIN
        for number, (begin, end) in zip(found.ids, found.offsets, strict=True):
            if number in self._silent or number >= len(self.tokens):
                yield transcript[begin:end].strip() or found.tokens[found.ids.index(number)]
        if self._characters is not None:
            normalized = self._made.normalizer.normalize_str(transcript) if self._made.normalizer else transcript
            splitter = self._made.pre_tokenizer
            parts = splitter.pre_tokenize_str(normalized) if splitter else [(normalized, (0, 0))]
            yield from (character for part, _ in parts for character in part if character not in self._characters)

    def _by_word(self, found: Any) -> Iterator[list[int]]:
        word: list[int] = []
        before = None
        for number, token, part in zip(found.ids, found.tokens, found.word_ids, strict=True):
            if word and (token.startswith(_BEGINS) or part != before):
                yield word
                word = []
            word, before = [*word, number], part
        if word:
            yield word

    def decode(self, ids: Sequence[int]) -> str:
        """The text of pieces, words separated by single spaces.

        Raises:
            DependencyError: tokenizers is not installed.
        """
        kept = [int(number) for number in ids if number not in self._silent]
        if self._made.decoder is None:
            said = "".join(map(self.tokens.__getitem__, kept)).replace(WORD_BEGIN, " ")
        else:
            said = self._made.decode(kept, skip_special_tokens=False)
        return " ".join(filter(None, said.split(" ")))


def _made(content: str, what: str) -> Any:
    tokenizers = import_optional("tokenizers", f"{what} needs the package tokenizers")
    try:
        made = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # its own kinds
        raise CorpusError(
            f"{what} is not a tokenizer of the package tokenizers ({' '.join(str(error).split())[:200]}); give the tokenizer.json that save_pretrained wrote"
        ) from None
    made.no_padding()
    made.no_truncation()
    return made
