"""Pieces of words by SentencePiece, BPE or unigram."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from asrkd.corpus.characters import WORD_BEGIN
from asrkd.corpus.spelling import CannotSpell
from asrkd.corpus.token_table import SPECIAL, with_blank
from asrkd.errors import CorpusError
from asrkd.extras import import_optional

MODEL = "bpe.model"
# Fields of the file: pieces, how it was trained, how it normalizes text.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3


@dataclass(frozen=True)
class SentencePiece:
    """Pieces of a SentencePiece model; ids are its own.

    Attributes:
        tokens: the pieces. A piece that is a blank by its name (as in icefall, where `<blk>` has id 0) is `<blk>`; without one, `ctc` adds a
            blank before them.
        model: the bytes of its file.
        words: those that a search may find, of a lexicon that came with it.
    """

    tokens: tuple[str, ...]
    model: bytes = field(repr=False)
    words: tuple[str, ...] | None = None
    complete: ClassVar[bool] = False
    kind: ClassVar[str] = "sentencepiece"

    @classmethod
    def read(cls, path: str) -> SentencePiece:
        """Of a `bpe.model`.

        Raises:
            CorpusError: it cannot be read, is none, or is cut short.
            DependencyError: sentencepiece is not installed.
        """
        what = f"SentencePiece model {path!r}"
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise CorpusError(f"{what} cannot be read: {error.strerror or error}; correct the path") from None
        return cls.of(content, what)

    @classmethod
    def of(cls, content: bytes, what: str) -> SentencePiece:
        """Of the bytes of a file; raises as `read`."""
        _check(content, what)
        processor = _processor(content, what)
        tokens = tuple(processor.id_to_piece(number) for number in range(processor.get_piece_size()))
        return cls(with_blank(tokens, what), content)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SentencePiece:
        """The inverse of `to_dict`."""
        words, model = values["words"], values["model"]
        # Checkpoints of earlier versions hold the bytes as a tensor.
        content = base64.b64decode(model) if isinstance(model, str) else model.numpy().tobytes()
        return cls(tuple(values["tokens"]), content, None if words is None else tuple(words))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a checkpoint or in JSON."""
        model = base64.b64encode(self.model).decode()
        return {"tokens": list(self.tokens), "model": model, "words": self.words and list(self.words)}

    @cached_property
    def _pieces(self) -> Any:
        return _processor(self.model, "the SentencePiece model")

    @cached_property
    def _silent(self) -> frozenset[int]:
        """Ids that no text has."""
        pieces = self._pieces
        named = {number for number, token in enumerate(self.tokens) if token in SPECIAL}
        return frozenset(named | {n for n in range(len(self.tokens)) if pieces.is_control(n) or pieces.is_unknown(n)})

    @cached_property
    def _at_end(self) -> bool:
        """Whether `▁` ends words rather than begins them (`treat_whitespace_as_suffix`)."""
        ends = sum(token.endswith(WORD_BEGIN) and len(token) > 1 for token in self.tokens)
        return ends > sum(token.startswith(WORD_BEGIN) and len(token) > 1 for token in self.tokens)

    def encode(self, transcript: str, *, what: str = "transcript") -> list[list[tuple[int, ...]]]:
        """The pieces of each word; all together they are SentencePiece's own for the transcript.

        Raises:
            CannotSpell: a character for which there is no piece.
            DependencyError: sentencepiece is not installed.
        """
        ids = self._pieces.encode(transcript)
        if WORD_BEGIN in transcript or not self._silent.isdisjoint(ids):
            missing = self._missing(transcript)
            raise CannotSpell(
                f"{what}: {', '.join(map(repr, missing))} cannot be spelled with the {len(self.tokens)} pieces of the tokenizer, so {transcript!r} cannot; "
                "normalize the text (inventory.text), or leave out the cut",
                missing,
            )
        return [[tuple(word)] for word in self._by_word(ids)]

    def _by_word(self, ids: Iterable[int]) -> Iterator[list[int]]:
        word: list[int] = []
        for number in ids:
            if not self._at_end and self.tokens[number].startswith(WORD_BEGIN) and word:
                yield word
                word = []
            word.append(number)
            if self._at_end and self.tokens[number].endswith(WORD_BEGIN):
                yield word
                word = []
        if word:
            yield word

    def _missing(self, transcript: str) -> list[str]:
        """What cannot be spelled: characters, or names of pieces that mean something else."""
        pieces = self._pieces
        spelled = zip(pieces.encode(transcript), pieces.encode(transcript, out_type=str), strict=True)
        found = [WORD_BEGIN] * (WORD_BEGIN in transcript)
        for number, piece in spelled:
            if number in self._silent:
                found += [piece] if self.tokens[number] in transcript else list(piece.strip(WORD_BEGIN))
        return list(dict.fromkeys(found))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of pieces, words separated by single spaces.

        Raises:
            DependencyError: sentencepiece is not installed.
        """
        silent = self._silent
        said: str = self._pieces.decode([int(number) for number in ids if number not in silent])
        return " ".join(filter(None, said.split(" ")))


def _processor(content: bytes, what: str) -> Any:
    sentencepiece = import_optional("sentencepiece", f"{what} needs the package sentencepiece")
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(content)
    except Exception as error:  # its own kinds
        raise _wrong(what, " ".join(str(error).split())) from None
    return processor


def _wrong(what: str, why: str) -> CorpusError:
    return CorpusError(
        f"{what} is not a SentencePiece model, or is cut short ({why}); give the .model file that SentencePiece or asrkd tokens wrote, whole"
    )


def _check(content: bytes, what: str) -> None:
    """Raise `CorpusError` unless all parts of a model are there: one cut short between two pieces would load, with fewer of them."""
    if not content:
        raise _wrong(what, "it is empty")
    fields: set[int] = set()
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        number, wire = key >> 3, key & 7
        if wire == 2:
            size, place = _varint(content, place)
            place += size
        elif wire == 0:
            _, place = _varint(content, place)
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        if not number or wire not in (0, 1, 2, 5) or place > len(content):
            raise _wrong(what, f"its {len(content)} bytes are not fields of a protocol buffer")
        fields.add(number)
    for number, name in ((_PIECES, "pieces"), (_TRAINER, "settings of its training"), (_NORMALIZER, "normalization")):
        if number not in fields:
            raise _wrong(what, f"it has no {name}")


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(content) and shift < 64:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    return 0, len(content) + 1  # beyond the end, which the caller refuses
