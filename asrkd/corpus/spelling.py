"""Transcripts that a tokenizer cannot spell, one by one and over a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from asrkd.errors import CorpusError

_SHOWN = 10


class CannotSpell(CorpusError):
    """A transcript that cannot be spelled.

    Attributes:
        missing: the words or characters that are to blame.
    """

    def __init__(self, message: str, missing: Sequence[str]) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


def check_spelling(transcripts: Iterable[tuple[str, str]], encode: Callable[..., Any], *, what: str) -> None:
    """Raise `CorpusError` unless all transcripts can be spelled.

    The error says how many cannot, the first ten of them, and what they have that has no token.

    Args:
        transcripts: (utterance id, transcript), taken one by one.
        encode: `Tokenizer.encode`.
        what: what they are of.
    """
    total, wrong, why = 0, 0, ""
    first: list[str] = []
    missing: Counter[str] = Counter()
    for key, transcript in transcripts:
        total += 1
        try:
            encode(transcript, what=f"utterance {key!r}")
        except CannotSpell as error:
            wrong += 1
            missing.update(dict.fromkeys(error.missing, 1))
            why = why or str(error)
            if len(first) < _SHOWN:
                first.append(f"{key!r} ({', '.join(map(repr, error.missing[:3]))})")
    if wrong:
        common = ", ".join(f"{name!r} in {count}" for name, count in missing.most_common(_SHOWN))
        more = " and others" if wrong > _SHOWN else ""
        raise CorpusError(
            f"{what}: {wrong} of {total} transcripts cannot be spelled: {', '.join(first)}{more}; without a token are {common}"
            f"{' and others' if len(missing) > _SHOWN else ''}. The first: {why}"
        )
