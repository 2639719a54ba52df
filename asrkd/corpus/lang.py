"""Folders of tokens: icefall's `data/lang_*` (`tokens.txt`, `bpe.model`, `lexicon.txt`) and Kaldi's `data/lang` (`phones.txt`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asrkd import fingerprint, text
from asrkd.corpus.characters import Characters
from asrkd.corpus.lexicon import RESERVED_WORDS, Lexicon
from asrkd.corpus.sentencepiece_model import MODEL, SentencePiece
from asrkd.corpus.token_table import SPECIAL, read_table
from asrkd.errors import CorpusError, MismatchError

TOKENS, PHONES = "tokens.txt", "phones.txt"
_LEXICON, _ALIGN_LEXICON = "lexicon.txt", "phones/align_lexicon.txt"


def read_lang(path: str) -> SentencePiece | Lexicon | Characters:
    """The tokenizer of a folder, or of its `tokens.txt` or `phones.txt`; ids are those of the table.

    Of icefall's, a `bpe.model` spells, and the words of a `lexicon.txt` are those that a search may find; without one the lexicon spells, and without
    a lexicon the characters do. Of Kaldi's, the phones with their places in words (`_B`, `_I`, `_E`, `_S`) spell.

    Raises:
        CorpusError: there is no such table, it is none, or what spells is missing or cannot be read.
        MismatchError: table and model, or table and lexicon, have different tokens.
        DependencyError: sentencepiece is needed and not installed.
    """
    folder = Path(path)
    if folder.name in (TOKENS, PHONES) and not folder.is_dir():
        folder = folder.parent
    if (folder / TOKENS).exists():
        return _of_icefall(folder)
    if (folder / PHONES).exists():
        return _of_kaldi(folder)
    what = "has neither" if folder.is_dir() else "does not exist, so there is neither"
    raise CorpusError(
        f"lang folder {str(folder)!r} {what} {TOKENS} (icefall) nor {PHONES} (Kaldi), which say the ids of the tokens; give a data/lang_* folder"
    )


def fingerprint_lang(path: str) -> str:
    """Of what `read_lang` reads, by content."""
    tokenizer = read_lang(path)
    if isinstance(tokenizer, SentencePiece):
        return fingerprint.of_json([tokenizer.tokens, fingerprint.of_bytes(tokenizer.model), tokenizer.words])
    return fingerprint.of_json([tokenizer.tokens, tokenizer.to_dict()])


def _of_icefall(folder: Path) -> SentencePiece | Lexicon | Characters:
    tokens, lexicon_file = read_table(folder / TOKENS), folder / _LEXICON
    if (folder / MODEL).exists():
        pieces = SentencePiece.read(str(folder / MODEL))
        _check_same(tokens, pieces.tokens, folder)
        # Words such as <UNK> and !SIL are not said.
        words = _spoken_words(lexicon_file) if lexicon_file.exists() else None
        return replace(pieces, words=words)
    characters = Characters.of(tokens)
    lexicon = Lexicon.read(lexicon_file) if lexicon_file.exists() else None
    if _are_characters(tokens, characters.boundary) and (lexicon is None or _spells_characters(lexicon, characters)):
        return characters
    if lexicon is None:
        raise CorpusError(
            f"lang folder {str(folder)!r} has neither {MODEL} nor {_LEXICON}, and its tokens are not characters, so nothing says how words are spelled; "
            "put the one that the tokens were made with there"
        )
    return _with_table(lexicon, tokens, folder)


def _check_same(tokens: Sequence[str], pieces: Sequence[str], folder: Path) -> None:
    if tuple(tokens) == tuple(pieces):
        return
    number = next((n for n, pair in enumerate(zip(tokens, pieces, strict=False)) if pair[0] != pair[1]), None)
    if number is None:
        why = f"{len(tokens)} tokens and {len(pieces)} pieces"
    else:
        why = f"id {number} is {tokens[number]!r} in one and {pieces[number]!r} in the other"
    raise MismatchError(
        f"lang folder {str(folder)!r}: {TOKENS} and {MODEL} are of different tokenizers ({why}), so the classes would be mixed up; give those that "
        "belong together"
    )


def _spoken_words(path: Path) -> tuple[str, ...]:
    lexicon = Lexicon.read(path)
    return tuple(
        word for word, spellings in lexicon.pronunciations.items() if word not in SPECIAL and _is_spoken(spellings)
    )


def _is_spoken(spellings: Sequence[Sequence[str]]) -> bool:
    return not any(token in SPECIAL or token == "SIL" for tokens in spellings for token in tokens)


def _are_characters(tokens: Sequence[str], boundary: str) -> bool:
    return all(len(token) == 1 for token in tokens if token not in SPECIAL and token != boundary)


def _spells_characters(lexicon: Lexicon, characters: Characters) -> bool:
    """Whether words are spelled by their characters, rather than by phones of one letter."""
    return all(
        "".join(token for token in tokens if token != characters.boundary) == word
        for word, spellings in lexicon.pronunciations.items()
        if _is_spoken(spellings)
        for tokens in spellings
    )


def _with_table(lexicon: Lexicon, tokens: tuple[str, ...], folder: Path) -> Lexicon:
    if foreign := sorted(set(lexicon.tokens) - set(tokens)):
        raise MismatchError(
            f"lang folder {str(folder)!r}: its lexicon has {len(foreign)} tokens that its table has not, the first {foreign[0]!r}; give those that "
            "belong together"
        )
    return replace(lexicon, table=tokens)


def _of_kaldi(folder: Path) -> Lexicon:
    phones = read_table(folder / PHONES)
    if (folder / _ALIGN_LEXICON).exists():
        pairs = list(_align_lexicon(folder / _ALIGN_LEXICON))
        return _with_table(Lexicon.from_pairs(pairs), phones, folder)
    if not (folder / _LEXICON).exists():
        raise CorpusError(
            f"lang folder {str(folder)!r} has neither {_ALIGN_LEXICON}, as utils/prepare_lang.sh writes, nor {_LEXICON}, so nothing says how words are "
            "spelled; put one there"
        )
    lexicon = Lexicon.read(folder / _LEXICON)
    placed = {
        word: tuple(tuple(_placed(own, phones)) for own in spellings)
        for word, spellings in lexicon.pronunciations.items()
    }
    return _with_table(Lexicon(placed), phones, folder)


def _align_lexicon(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(word, phones) of lines that have the word twice."""
    for number, line in text.numbered_lines(path, what="lexicon"):
        word, *rest = text.words(line)
        if word in RESERVED_WORDS:
            continue
        if rest[:1] != [word] or len(rest) < 2:
            raise CorpusError(
                f"lexicon {str(path)!r} line {number} is {line.strip()!r}, but a line is a word, the word again, and its phones; write it again with "
                "utils/prepare_lang.sh"
            )
        yield word, rest[1:]


def _placed(phones: Sequence[str], table: Sequence[str]) -> Iterator[str]:
    """Phones of a word by their place in it, where the table tells places apart."""
    for place, phone in enumerate(phones):
        ends: Mapping[tuple[bool, bool], str] = {
            (True, True): "_S", (True, False): "_B", (False, True): "_E", (False, False): "_I",
        }  # fmt: skip
        named = phone + ends[place == 0, place == len(phones) - 1]
        yield named if named in table else phone
