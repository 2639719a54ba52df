"""G: which words, and phone language models for LF-MMI."""

from __future__ import annotations

import gzip
import logging
import math
import re
import subprocess
import sys
import tempfile
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asrkd.errors import CorpusError
from asrkd.sequence.dependency import check_kaldilm, import_k2

_log = logging.getLogger(__name__)
# The word on back-off arcs, until determinization is done.
BACKOFF = "#0"
SPECIAL = ("<s>", "</s>", "<unk>", "<UNK>", "<eps>")


def why_no_penalty(grammar: str | None, insertion_penalty: float) -> str:
    """What is wrong with a cost of every word next to a grammar, which has costs of its own; empty if nothing is."""
    if grammar is None or not insertion_penalty:
        return ""
    return f"is {insertion_penalty:g}, but it is for the loop of words; the grammar {grammar!r} has costs for words already, so leave it out"


def word_loop(costs: Mapping[int, float]) -> Any:
    """Any sequence of words, each at its cost, an acceptor."""
    arcs = [f"0 0 {word} {-cost}" for word, cost in sorted(costs.items())]
    return import_k2().Fsa.from_str("\n".join([*arcs, "0 1 -1 0", "1"]))


def ngram(path: str | Path, words: Sequence[str]) -> Any:
    """`ngram_text` as a k2 Fsa."""
    return import_k2().Fsa.from_openfst(ngram_text(path, words), acceptor=False)


def ngram_text(path: str | Path, words: Sequence[str]) -> str:
    """An ARPA language model as the text of an OpenFst transducer from words to words; back-off arcs have the label len(words) + 1
    and the output 0.

    A `.gz` is unpacked. Words are compared in Unicode's composed form (NFC); n-grams with words that are not among `words` are left out, with a warning.

    Args:
        words: word n at n - 1.

    Raises:
        CorpusError: not a readable ARPA file, or one that has none of the words.
        DependencyError: kaldilm is not installed.
    """
    check_kaldilm()
    words = [unicodedata.normalize("NFC", word) for word in words]
    with composed_arpa(path) as (model, unigrams), tempfile.TemporaryDirectory(prefix="asrkd-arpa-") as folder:
        check_words(path, words, unigrams)
        symbols = Path(folder) / "words.txt"
        names = ["<eps>", *words, BACKOFF, "<s>", "</s>"]
        symbols.write_text("".join(f"{name} {number}\n" for number, name in enumerate(names)), encoding="utf-8")
        # In a process of its own: kaldilm aborts the process at a damaged file.
        command = [sys.executable, "-m", "kaldilm", f"--disambig-symbol={BACKOFF}", f"--read-symbol-table={symbols}"]
        ran = subprocess.run(
            [*command, "--max-order=9", str(model)], capture_output=True, encoding="utf-8", errors="replace"
        )
        if ran.returncode:
            reasons = [line for line in ran.stderr.splitlines() if "[F]" in line or "Error" in line or "[E]" in line]
            raise CorpusError(
                f"language model {str(path)!r} is not a readable ARPA file: {(reasons or ['kaldilm gave up'])[0].strip()}"
            )
    return ran.stdout.strip()


def check_words(path: str | Path, words: Sequence[str], unigrams: Sequence[str]) -> None:
    """Raise `CorpusError` where a language model and a lexicon share no words; warn of those that only the language model has."""
    unknown = sorted(set(unigrams) - set(words) - set(SPECIAL))
    if not set(words) & set(unigrams):
        raise CorpusError(
            f"language model {str(path)!r} has none of the lexicon's {len(words)} words, but {', '.join(map(repr, unknown[:5]))}"
            f"{', ...' if len(unknown) > 5 else ''}; give the model of this language, and of these units"
        )
    if unknown:
        _log.warning(
            "language model %r: %d of its %d words are not in the lexicon and are never found: %s%s",
            str(path),
            len(unknown),
            len(set(unigrams) - set(SPECIAL)),
            ", ".join(map(repr, unknown[:5])),
            ", ..." if len(unknown) > 5 else "",
        )


@contextmanager
def composed_arpa(path: str | Path) -> Iterator[tuple[Path, list[str]]]:
    """The path of an ARPA file in Unicode's composed form (NFC) and unpacked, which is a copy where it has to be, and its words.

    Raises:
        CorpusError: it cannot be read, or is not an ARPA file.
    """
    unigrams, changed = _arpa(path)
    with tempfile.TemporaryDirectory(prefix="asrkd-arpa-") as folder:
        model = Path(path)
        if changed:
            model = Path(folder) / "composed.arpa"
            with open(model, "w", encoding="utf-8", newline="\n") as copy:
                copy.writelines(f"{line}\n" for _, line in _lines(path))
        yield model, unigrams


def _arpa(path: str | Path) -> tuple[list[str], bool]:
    """The words of an ARPA file in the composed form, and whether the file is another than `_lines` of it."""
    words, inside, found, changed = [], False, False, str(path).endswith(".gz")
    for raw, line in _lines(path):
        changed = changed or raw.rstrip(b"\n") != line.encode()
        if line.startswith("\\"):
            found = found or line.strip() == "\\data\\"
            inside = line.strip() == "\\1-grams:"
        elif inside and len(parts := re.split("[ \t]+", line.strip(" \t"))) > 1:
            words.append(parts[1])
    if not found:
        raise CorpusError(f"language model {str(path)!r} has no line \\data\\, so it is not an ARPA file")
    return words, changed


def _lines(path: str | Path) -> Iterator[tuple[bytes, str]]:
    """(bytes, text) of each line; the text without byte order mark and line end, in Unicode's composed form (NFC)."""
    try:
        with gzip.open(path) if str(path).endswith(".gz") else open(path, "rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise CorpusError(
                        f"language model {str(path)!r} line {number} is not UTF-8 text: {error.reason}; convert it (iconv -t UTF-8)"
                    ) from None
                yield raw, unicodedata.normalize("NFC", line.removesuffix("\n").removesuffix("\r"))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(
            f"language model {str(path)!r} cannot be unpacked ({error}); the file is cut short or damaged"
        ) from None
    except OSError as error:
        raise CorpusError(f"language model {str(path)!r} cannot be read: {error.strerror or error}") from None


def phone_ngram(sequences: Sequence[Sequence[int]], order: int = 2) -> Any:
    """The phone language model of LF-MMI, an acceptor of tokens (Povey et al. 2016, section 3.2).

    Maximum-likelihood n-grams: neither smoothed nor backed off, so that the graph stays small; what was never seen is not allowed.
    Sentence ends are part of it. The tokens of every given sequence are a path.

    Args:
        sequences: tokens of the training set, silence among them where it was heard.
        order: 2 for bigrams, 3 for trigrams.

    Raises:
        CorpusError: no tokens, or an order below 2.
    """
    if order < 2:
        raise CorpusError(f"the order of the phone language model is {order}, but must be at least 2")
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for own in sequences:
        history: tuple[int, ...] = ()
        for token in own:
            counts[history][token] += 1
            history = (*history, token)[-(order - 1) :]
        if own:
            counts[history][-1] += 1
    if not counts:
        raise CorpusError("a phone language model needs transcripts; every sequence is empty")
    numbers = {history: number for number, history in enumerate(sorted(counts, key=lambda one: (len(one), one)))}
    arcs = []
    for history, number in numbers.items():
        total = sum(counts[history].values())
        for token, count in sorted(counts[history].items()):
            after = len(numbers) if token == -1 else numbers[(*history, token)[-(order - 1) :]]
            arcs.append(f"{number} {after} {token} {math.log(count / total)}")
    return import_k2().arc_sort(import_k2().Fsa.from_str("\n".join([*arcs, str(len(numbers))])))
