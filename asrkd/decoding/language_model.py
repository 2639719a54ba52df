"""Word (or token) n-gram language models of KenLM: ARPA files and its binary ones, by flashlight-text, which brings KenLM with it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from asrkd import text
from asrkd.errors import CorpusError
from asrkd.extras import import_optional
from asrkd.sequence.grammar import check_words, composed_arpa

_BINARY = b"mmap lm http://kheafield.com/code"
# Not a word of any text, so its score is that of an unknown word.
_UNKNOWN = "\x01"
# KenLM's scores are to the base of 10.
LOG_10 = math.log(10)


def check_flashlight() -> None:
    """Raise `DependencyError` unless flashlight-text is installed."""
    import_optional("flashlight", "the beam search needs flashlight-text")


class NGram:
    """An n-gram language model of a list of words.

    Args:
        path: an ARPA file (a `.gz` is unpacked) or a binary file of KenLM.
        words: which words, in Unicode's composed form; they are named by their places.

    Attributes:
        model: as flashlight's searches take it; they do not keep it alive.
        has: for each word whether the model has it.

    Raises:
        CorpusError: a file that is neither, or that has none of the words.
        DependencyError: flashlight-text is not installed.
    """

    def __init__(self, path: str | Path, words: Sequence[str]) -> None:
        check_flashlight()
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import Dictionary

        names = [*map(text.normal, words), _UNKNOWN]
        dictionary = Dictionary()
        for name in names:
            dictionary.add_entry(name)
        with ExitStack() as stack:
            unigrams: list[str] | None = None
            model = Path(path)
            if not is_kenlm_binary(path):
                model, unigrams = stack.enter_context(composed_arpa(path))
                check_words(path, names[:-1], unigrams)
            try:
                with _silent_stderr():
                    self.model = KenLM(os.fsdecode(model), dictionary)
            except RuntimeError as error:
                reason = " ".join(str(error).split()).rpartition("threw ")[2]
                raise CorpusError(
                    f"language model {str(path)!r} cannot be read by KenLM ({reason}); give an ARPA file, or a binary file of this version of KenLM"
                ) from None
        if unigrams is not None:
            known = set(unigrams)
            self.has = [name in known for name in names[:-1]]
        else:
            unknown = self.log_10(len(words))
            self.has = [self.log_10(number) != unknown for number in range(len(words))]
            if not any(self.has):
                raise CorpusError(
                    f"language model {str(path)!r} has none of the {len(words)} words that can be recognized; give the model of this language, and of "
                    "these units"
                )

    def log_10(self, word: int) -> float:
        """The score of a word as the first of a sentence."""
        return float(self.model.score(self.model.start(False), word)[1])


def is_kenlm_binary(path: str | Path) -> bool:
    """Whether a file is a binary one of KenLM.

    Raises:
        CorpusError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(len(_BINARY)) == _BINARY
    except OSError as error:
        raise CorpusError(f"language model {str(path)!r} cannot be read: {error.strerror or error}") from None


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what C++ writes to the standard error: KenLM draws a progress bar."""
    try:
        kept = os.dup(2)
    except OSError:  # closed
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
