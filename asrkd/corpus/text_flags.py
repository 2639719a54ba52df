"""What is suspicious in a text that a model wrote for an utterance: figures, and flags where they pass a limit.

Sequence-to-sequence models write text where nothing is said, and repeat themselves until their limit. Nothing is deleted for it: a store has
the figures and flags as columns, and who trains chooses (`asrkd.streaming.selection.Filter`).
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrkd.config import check, setting

# In the order of the bits of a catalog: new ones go to the end.
FLAGS = (
    "repetition", "compression", "long", "short", "unfinished", "no_speech", "language", "charset", "empty", "ambiguous",
)  # fmt: skip

# A loop is at least this many copies of a block one after the other, of at most this many words, or characters.
_COPIES, _BLOCK_WORDS, _BLOCK_CHARACTERS = 4, 12, 30
# Apostrophes, hyphen, and the joiners of some scripts.
_WITHIN_WORDS = "'\u2019-\u200c\u200d"
# Scripts that one text mixes, by the first word of their letters' names in Unicode.
_TOGETHER = ({"HIRAGANA", "KATAKANA", "CJK"}, {"HANGUL", "CJK"})


@dataclass
class FlagLimits:
    """Limits beyond which a text is flagged."""

    max_repetition: float = setting(0.4, at_least=0, at_most=1)
    """`repetition`: share of the text that is one block of words or characters four times or more in a row."""
    max_compression: float = setting(2.4, above=0)
    """`compression`: bytes of the text over those that zlib makes of it, as Whisper's own rule has it."""
    max_rate: float = setting(25.0, above=0)
    """`long`: letters and digits a second of audio. Writing systems of words or syllables need a lower one."""
    min_rate: float = setting(1.0, at_least=0)
    """`short`: the same, at least, in audio of two seconds and more."""
    max_no_speech: float = setting(0.6, at_least=0, at_most=1)
    """`no_speech`: probability that nothing is said, of a model that says one."""
    min_language: float = setting(0.5, at_least=0, at_most=1)
    """`language`: probability of the language that the model takes the audio for, at least, of a model that says one."""
    characters: str = setting("")
    """`charset`: characters that the normalized text may have besides space; empty for letters of one script, apostrophes and hyphens."""

    def __post_init__(self) -> None:
        check(self, "flags")


@dataclass(frozen=True)
class Judgment:
    """Figures of a text, and its flags.

    Attributes:
        rate: letters and digits a second of audio.
        compression: bytes of the text over those that zlib makes of it.
        repetition: share of the text that is one block again and again.
        flags: names of `FLAGS`, in their order.
    """

    rate: float
    compression: float
    repetition: float
    flags: tuple[str, ...]


def judge(
    text: str,
    seconds: float,
    limits: FlagLimits,
    *,
    raw: str | None = None,
    finished: bool = True,
    no_speech: float | None = None,
    language: str | None = None,
    language_probability: float | None = None,
    expected_language: str = "",
    ambiguous: bool = False,
) -> Judgment:
    """The figures and flags of a normalized text.

    Args:
        seconds: of audio.
        raw: the text before its normalization, of which compression and repetition are taken: what is removed may be what repeats.
        finished: whether the model ended the text, rather than its limit of tokens.
        no_speech: probability that nothing is said.
        language, language_probability: what the model takes the audio for.
        expected_language: what it should be; empty for any.
        ambiguous: whether several sentences of a grammar are as near to it.
    """
    whole = text if raw is None else raw
    rate, ratio, repeated = (
        characters_per_second(text, seconds),
        compression(whole),
        max(repetition(text), repetition(whole)),
    )
    found = {
        "repetition": repeated > limits.max_repetition,
        "compression": ratio > limits.max_compression,
        "long": rate > limits.max_rate,
        "short": seconds >= 2 and rate < limits.min_rate,
        "unfinished": not finished,
        "no_speech": no_speech is not None and no_speech > limits.max_no_speech,
        "language": (bool(expected_language) and language is not None and language != expected_language)
        or (language_probability is not None and language_probability < limits.min_language),
        "charset": has_strange_characters(text, limits.characters),
        "empty": not text,
        "ambiguous": ambiguous,
    }
    return Judgment(rate, ratio, repeated, tuple(name for name in FLAGS if found[name]))


def characters_per_second(text: str, seconds: float) -> float:
    """Letters, marks and digits of a text over the seconds of its audio; infinite for text without audio."""
    count = sum(unicodedata.category(character)[0] in "LMN" for character in text)
    if seconds > 0:
        return count / seconds
    return float("inf") if count else 0.0


def compression(text: str) -> float:
    """Bytes of a text over those that zlib makes of it; 0 for an empty one. Short texts grow, so theirs is below 1."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data))


def repetition(text: str) -> float:
    """Share of a text that is one block of words, or of characters, at least four times in a row; 0 without any."""
    words = text.casefold().split()
    return max(_repeated(words, _BLOCK_WORDS), _repeated(list("".join(words)), _BLOCK_CHARACTERS, least=12))


def _repeated(items: Sequence[str], longest: int, least: int = _COPIES) -> float:
    """The share of items in the longest stretch that is a block of up to `longest` items again and again; of stretches of `least` items or more."""
    if len(items) < least:
        return 0.0
    codes = np.unique(np.array(items, dtype=object), return_inverse=True)[1]
    best = 0
    for size in range(1, min(longest, len(items) // _COPIES) + 1):
        # A stretch of n items that are those of `size` items before is n + size items of one block.
        differs = np.flatnonzero(codes[size:] != codes[:-size])
        stretch = int(np.diff(np.concatenate([[-1], differs, [len(items) - size]])).max()) - 1 + size
        if stretch >= max(_COPIES * size, least):
            best = max(best, stretch)
    return best / len(items)


def has_strange_characters(text: str, allowed: str = "") -> bool:
    """Whether a normalized text has characters other than the allowed ones and spaces; by default other than letters of one script with
    their marks, apostrophes and hyphens."""
    if allowed:
        return any(character not in allowed and not character.isspace() for character in text)
    scripts = set()
    for character in set(unicodedata.normalize("NFKC", text)):
        category = unicodedata.category(character)
        if category[0] == "L" and category != "Lm":  # modifiers are of any script
            scripts.add(unicodedata.name(character, "?").split()[0])
        elif not (category[0] in "LM" or character.isspace() or character in _WITHIN_WORDS):
            return True
    return len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER)


def flag_bits(names: Sequence[str]) -> int:
    """Flags as one number, as a catalog has them: the bit of each name of `FLAGS`."""
    return sum(1 << FLAGS.index(name) for name in set(names))
