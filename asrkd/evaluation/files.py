"""The files of a scored test set, in the style of icefall: `recogs-*`, `errs-*`, `wer-summary-*`; and Kaldi's `text`, `utt2spk`."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from asrkd import files, text
from asrkd.errors import CorpusError
from asrkd.evaluation.wer import Scored, bootstrap, by_speaker, total

# The name of an utterance in the trn format of sclite, after the words. `(laughs)` is a word.
_TRN = re.compile(r"\([^()]*[-_0-9][^()]*\)")


def check_id(key: str) -> None:
    """Raise `CorpusError` for an utterance id that a line of `id word word ...` could not begin with."""
    if text.words(key) != [key] or key.startswith("\ufeff") or not text.is_utf8(key):
        raise CorpusError(
            f"utterance id {key!r} is empty, has white space in it, begins with a byte order mark or is not Unicode, so files of "
            "`id word word ...` lines cannot hold it; rename the cuts (lhotse: cuts.modify_ids)"
        )


def write_hypotheses(path: Path, hypotheses: Mapping[str, str]) -> None:
    """Kaldi's text format: `id word word ...`, one utterance a line.

    Raises:
        CorpusError: an id that such a line cannot begin with, or words that are not Unicode.
    """
    lines = []
    for key, words in hypotheses.items():
        check_id(key)
        if not text.is_utf8(words):
            raise CorpusError(f"utterance {key!r} has the text {words!r}, which is not Unicode; correct the transcript")
        lines.append(" ".join([key, *text.words(words)]) + "\n")
    files.write(path, "".join(lines))


def read_hypotheses(path: Path) -> dict[str, str]:
    """Read what `write_hypotheses` wrote: words separated by single blanks.

    Raises:
        CorpusError: the file cannot be read, is empty or of another format, or has an id more than once.
    """
    what = f"file {str(path)!r}"
    rows = [(number, text.words(line)) for number, line in text.numbered_lines(path)]
    if not rows:
        raise CorpusError(f"{what} holds no utterances, so there is nothing to score; give `id word word ...` lines")
    _check_format(what, [words for _, words in rows])
    result: dict[str, str] = {}
    first: dict[str, int] = {}
    for number, (key, *words) in rows:
        if key in result:
            raise CorpusError(
                f"{what} has utterance {key!r} on line {first[key]} and again on line {number}, so it is not clear which to score; "
                "give each utterance one line"
            )
        first[key], result[key] = number, " ".join(words)
    return result


def _check_format(what: str, rows: Sequence[Sequence[str]]) -> None:
    form = "give `id word word ...` lines, such as the hyp-NAME.txt and ref-NAME.txt of asrkd decode"
    if all(row[0].endswith(":") and len(row) > 1 and row[1].startswith(("ref=", "hyp=")) for row in rows):
        raise CorpusError(f"{what} is a recogs file, which holds references and hypotheses in turns; {form}")
    if re.match(r"WER (\d+\.\d+ %|undefined,)", " ".join(rows[0])):
        raise CorpusError(f"{what} is an errs or wer-summary file, which holds no hypotheses to be scored; {form}")
    names = [row[-1] for row in rows]
    if all(map(_TRN.fullmatch, names)) and len(set(names)) == len(names):
        raise CorpusError(f"{what} is in the trn format, `word word ... (id)`: line 1 ends with {names[0]!r}; {form}")


def write_speakers(path: Path, speakers: Mapping[str, str]) -> None:
    """Kaldi's utt2spk: `id speaker`, one utterance a line; a name keeps single blanks."""
    write_hypotheses(path, speakers)


def speakers_of(references: Path) -> dict[str, str]:
    """Speaker by utterance id, of the `utt2spk-NAME.txt` that was written with a `ref-NAME.txt`; empty without it.

    Raises:
        CorpusError: that file cannot be read, or has an id more than once.
    """
    path = references.with_name(f"utt2spk-{references.name.removeprefix('ref-')}")
    return read_hypotheses(path) if references.name.startswith("ref-") and path.exists() else {}


def write_scores(folder: Path, name: str, scored: Sequence[Scored]) -> None:
    """Write `recogs-NAME.txt`, `errs-NAME.txt` (alignments) and `wer-summary-NAME.txt`.

    Alignments mark an error as `(reference->hypothesis)` with `*` for a gap. Where words of the test set have these signs the
    line behind the summary names others, which no word has.
    """
    words = {word for one in scored for pair in one.pairs for word in pair if word is not None}
    gap = next(sign for sign in ("*" * count for count in itertools.count(1)) if sign not in words)
    arrow = next(sign for sign in _arrows() if not any(sign in word for word in words))
    signs = "" if (gap, arrow) == ("*", "->") else f"here an error is (reference{arrow}hypothesis), and a gap is {gap}"
    recogs, errs = [], [*summary(scored).split("\n"), signs]
    for one in scored:
        recogs.append(f"{one.id}:\tref={' '.join(r for r, _ in one.pairs if r is not None)}")
        recogs.append(f"{one.id}:\thyp={' '.join(h for _, h in one.pairs if h is not None)}")
        marked = (
            r if r is not None and r == h else f"({gap if r is None else r}{arrow}{gap if h is None else h})"
            for r, h in one.pairs
        )
        errs.append(f"{one.id}:\t{' '.join(marked)}")
    files.write(folder / f"recogs-{name}.txt", "\n".join(recogs) + "\n")
    files.write(folder / f"errs-{name}.txt", "\n".join(errs) + "\n")
    files.write(folder / f"wer-summary-{name}.txt", summary(scored) + "\n")


def _arrows() -> Iterable[str]:
    return itertools.chain(["->"], (f"-{number}>" for number in itertools.count(1)))


def summary(scored: Sequence[Scored]) -> str:
    """WER with its interval over speakers, and each speaker's rate."""
    errors, speakers = total(scored), by_speaker(scored)
    low, high = bootstrap({name: [value] for name, value in speakers.items()})
    interval = (
        f"[{100 * low:.2f}, {100 * high:.2f}]"
        if math.isfinite(low)
        else "(no interval: fewer than 2 speakers with words)"
    )
    rate = f"{100 * errors.rate:.2f} % {interval}" if errors.reference else "undefined, without reference words,"
    lines = [
        f"WER {rate} over {len(speakers)} speaker{'s' * (len(speakers) != 1)}: "
        f"{errors.substitutions} substitutions, {errors.deletions} deletions, {errors.insertions} insertions, "
        f"{errors.reference} words, {len(scored)} utterances"
    ]
    for name, value in speakers.items():
        share = f"{100 * value.rate:.2f} %" if value.reference else "undefined"
        lines.append(f"  {name}\t{share}\t{value.reference} words")
    return "\n".join(lines)


def check_speakers(ids: Collection[str], speakers: Mapping[str, str], *, what: str) -> None:
    """Raise `CorpusError` unless every utterance has a speaker."""
    missing = [key for key in ids if key not in speakers]
    if missing:
        raise CorpusError(
            f"{what} names no speaker for {len(missing)} of {len(ids)} utterances (first: {missing[0]!r}), so the interval over "
            "speakers would be wrong; give the cuts that were decoded"
        )
