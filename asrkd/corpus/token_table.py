"""Tables of tokens and their ids: `tokens.txt` and `phones.txt` of icefall and Kaldi (`token id` lines), and `vocab.json` of transformers.

The ids are those of a model's classes, so they are 0, 1, 2, ... without a hole, and each is of one token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asrkd import text
from asrkd.corpus.topology import BLANK
from asrkd.errors import CorpusError

# What toolkits call the blank; `<eps>` is one where it has id 0, as in the phone lexicons of icefall.
_BLANKS = (BLANK, "<blank>", "<pad>", "[PAD]", "<eps>")
# Tokens that spell nothing, which no transcript is encoded to and which no text shows.
SPECIAL = frozenset(
    (*_BLANKS, "<unk>", "<UNK>", "[UNK]", "<s>", "</s>", "[CLS]", "[SEP]", "<sos/eos>", "<sos>", "<eos>", "<|endoftext|>")
)  # fmt: skip
_DISAMBIGUATION = re.compile(r"#(\d+|nonterm\S*)")


def read_table(path: str | Path, *, disambiguation: bool = True) -> tuple[str, ...]:
    """The tokens of a file of `token id` lines in the order of their ids, the blank named `<blk>`.

    Args:
        disambiguation: the symbols `#0`, `#1`, ... at the end belong to graphs and are left out.

    Raises:
        CorpusError: the file cannot be read, or it is not such a table.
    """
    what = f"table of tokens {str(path)!r}"
    pairs: list[tuple[str, int]] = []
    for number, line in text.numbered_lines(path, what="table of tokens"):
        fields = text.words(line)
        if len(fields) != 2 or not re.fullmatch(r"[0-9]{1,9}", fields[1]):
            raise CorpusError(
                f"{what} line {number} is {line.strip()!r}, but a line is a token and its id; give a tokens.txt or phones.txt"
            )
        pairs.append((fields[0], int(fields[1])))
    tokens = in_order(pairs, what)
    if disambiguation:
        kept = [token for token in tokens if not _DISAMBIGUATION.fullmatch(token)]
        # A model has no class for them, so they cannot come before tokens that have one.
        if tuple(kept) != tokens[: len(kept)]:
            first = next(token for token in tokens if _DISAMBIGUATION.fullmatch(token))
            raise CorpusError(
                f"{what}: the disambiguation symbol {first!r} has an id below that of a token, so the ids are not those of a model's classes; "
                "give the ids after all tokens to such symbols"
            )
        tokens = tuple(kept)
    return with_blank(tokens, what)


def read_vocab(path: str | Path) -> tuple[str, ...]:
    """The tokens of a `vocab.json` in the order of their ids, with those of an `added_tokens.json` next to it, the blank named `<blk>`.

    The blank is the `pad_token` of a `tokenizer_config.json` next to it, and otherwise known by its name.

    Raises:
        CorpusError: the file cannot be read, or it is not a map of tokens to ids.
    """
    path = Path(path)
    pairs = _map_of_ids(path)
    added = path.parent / "added_tokens.json"
    if added.exists():
        listed = dict(pairs)
        pairs += [(token, number) for token, number in _map_of_ids(added) if listed.get(token) != number]
    what = f"vocabulary {str(path)!r}"
    return with_blank(in_order(pairs, what), what, pad=str(setting_beside(path, "pad_token") or ""))


def setting_beside(vocab: Path, name: str) -> str | None:
    """A token of the `tokenizer_config.json` next to a `vocab.json`; None where there is none.

    Raises:
        CorpusError: the file is not a JSON object.
    """
    path = vocab.parent / "tokenizer_config.json"
    if not path.exists():
        return None
    value = _json(path, "tokenizer config")
    if not isinstance(value, dict):
        raise CorpusError(
            f"tokenizer config {str(path)!r} must be a map, not {_shown(value)}; give what save_pretrained wrote"
        )
    value = value.get(name)
    if isinstance(value, dict):  # a token with its properties
        value = value.get("content")
    return value if isinstance(value, str) else None


def in_order(pairs: Iterable[tuple[str, int]], what: str) -> tuple[str, ...]:
    """Tokens in the order of their ids.

    Raises:
        CorpusError: there are none, ids or tokens that are there twice, ids with holes, or a token that no inventory could hold.
    """
    by_id: dict[int, str] = {}
    ids: dict[str, int] = {}
    for token, number in pairs:
        if number in by_id:
            raise CorpusError(
                f"{what}: id {number} is that of {by_id[number]!r} and of {token!r}; a class has one token, so give each its own id"
            )
        if token in ids:
            raise CorpusError(
                f"{what}: token {token!r} has the ids {ids[token]} and {number}; it could not be told which to use"
            )
        if not token or "\n" in token or token[-1] == "\r" or not text.is_utf8(token):
            raise CorpusError(
                f"{what}: token {token!r} (id {number}) is empty, has a line end or is not Unicode; name it otherwise"
            )
        by_id[number], ids[token] = token, number
    if not by_id:
        raise CorpusError(f"{what} has no tokens; nothing could be spelled with it")
    holes = [number for number in range(max(by_id) + 1) if number not in by_id] if max(by_id) < 10_000_000 else []
    if holes or max(by_id) != len(by_id) - 1:
        named = ", ".join(map(str, holes[:10])) + (" and others" if len(holes) > 10 else "")
        raise CorpusError(
            f"{what} has {len(by_id)} tokens with ids up to {max(by_id)}, but none for {named or 'many ids'}; a model's classes are numbered from 0 "
            "without a hole, so the table is not whole"
        )
    return tuple(by_id[number] for number in range(len(by_id)))


def with_blank(tokens: tuple[str, ...], what: str, *, pad: str = "") -> tuple[str, ...]:
    """The tokens with the blank named `<blk>`, if there is one; `pad` is its name, where that is known."""
    names = [pad] if pad else [name for name in _BLANKS if name != "<eps>" or tokens[:1] == ("<eps>",)]
    blank = next((name for name in names if name in tokens), None)
    if blank is None:
        return tokens
    if blank != BLANK and BLANK in tokens:
        raise CorpusError(
            f"{what}: its blank is {blank!r} (pad_token), but it has a {BLANK!r}, too; it could not be told which of the two is the blank"
        )
    return tuple(BLANK if token == blank else token for token in tokens)


def _map_of_ids(path: Path) -> list[tuple[str, int]]:
    what = f"vocabulary {str(path)!r}"
    value = _json(path, "vocabulary")
    if not isinstance(value, _Pairs):
        raise CorpusError(
            f"{what} must be a map of tokens to ids, not {_shown(value)}; give the vocab.json of a transformers tokenizer"
        )
    for token, number in value.pairs:
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise CorpusError(
                f"{what}: token {token!r} has {_shown(number)} in place of an id, a whole number from 0 on; "
                + (
                    "it holds vocabularies by language, so write the one of your language to a file of its own"
                    if isinstance(number, dict)
                    else "correct it"
                )
            )
    return value.pairs


class _Pairs(dict[str, Any]):
    """A JSON object that remembers keys that are there twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _json(path: Path, what: str) -> Any:
    content = text.read(path, what=what)
    try:
        return json.loads(content, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{what} {str(path)!r} is not JSON ({' '.join(str(error).split())}); correct it") from None


def _shown(value: Any) -> str:
    shown = repr(value)
    kinds: tuple[tuple[type, str], ...] = ((list, "a list"), (str, "a string"), (dict, "a map"))
    kind = next((name for kind, name in kinds if isinstance(value, kind)), type(value).__name__)
    return f"{kind} ({shown[:60]}{'...' if len(shown) > 60 else ''})"
