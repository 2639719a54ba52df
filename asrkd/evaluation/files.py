"""The files of a scored test set, in the style of icefall: `recogs-*`, `errs-*`, `wer-summary-*`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from asrkd import files
from asrkd.errors import CorpusError
from asrkd.evaluation.wer import Scored, bootstrap, by_speaker, total


def write_hypotheses(path: Path, hypotheses: Mapping[str, str]) -> None:
    """Kaldi's text format: `id word word ...`, one utterance a line."""
    files.write(path, "".join(f"{key} {text}".rstrip() + "\n" for key, text in hypotheses.items()))


def read_hypotheses(path: Path) -> dict[str, str]:
    """Read what `write_hypotheses` wrote.

    Raises:
        CorpusError: the file cannot be read, or an id stands twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{str(path)!r} cannot be read as text ({error}); give a file of `id word word ...` lines"
        ) from None
    result: dict[str, str] = {}
    for line in lines:
        key, _, text = line.strip().partition(" ")
        if key in result:
            raise CorpusError(f"{str(path)!r}: utterance {key!r} stands twice, so it is not clear which text to score")
        if key:
            result[key] = text.strip()
    return result


def write_scores(folder: Path, name: str, scored: Sequence[Scored]) -> None:
    """Write `recogs-NAME.txt`, `errs-NAME.txt` (alignments) and `wer-summary-NAME.txt`."""
    recogs, errs = [], [summary(scored), ""]
    for one in scored:
        recogs.append(f"{one.id}:\tref={' '.join(r for r, _ in one.pairs if r != '*')}")
        recogs.append(f"{one.id}:\thyp={' '.join(h for _, h in one.pairs if h != '*')}")
        marked = (r if r == h else f"({r}->{h})" for r, h in one.pairs)
        errs.append(f"{one.id}:\t{' '.join(marked)}")
    files.write(folder / f"recogs-{name}.txt", "\n".join(recogs) + "\n")
    files.write(folder / f"errs-{name}.txt", "\n".join(errs) + "\n")
    files.write(folder / f"wer-summary-{name}.txt", summary(scored) + "\n")


def summary(scored: Sequence[Scored]) -> str:
    """WER with its interval over speakers, and each speaker's rate."""
    errors, speakers = total(scored), by_speaker(scored)
    low, high = bootstrap({name: [value] for name, value in speakers.items()})
    lines = [
        f"WER {100 * errors.rate:.2f} % [{100 * low:.2f}, {100 * high:.2f}] over {len(speakers)} speakers: "
        f"{errors.substitutions} substitutions, {errors.deletions} deletions, {errors.insertions} insertions, "
        f"{errors.reference} words, {len(scored)} utterances"
    ]
    lines += [f"  {name}\t{100 * value.rate:.2f} %\t{value.reference} words" for name, value in speakers.items()]
    return "\n".join(lines)
