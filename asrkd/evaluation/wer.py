"""Word error rate: alignments by kaldialign, rates by speaker, confidence intervals by the bootstrap over speakers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import kaldialign
import numpy as np

from asrkd import text
from asrkd.errors import CorpusError, MismatchError

_log = logging.getLogger(__name__)
# Words are numbered from 0 for the alignment, so this is not one.
_GAP = -1
# Draws of speakers held at a time.
_BLOCK = 500_000


@dataclass(frozen=True)
class Errors:
    """Counts of errors against `reference` words."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference: int = 0

    def __add__(self, other: Errors) -> Errors:
        return Errors(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def total(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Word error rate as a share.

        Raises:
            CorpusError: there are no reference words.
        """
        if not self.reference:
            raise CorpusError(
                f"the references hold no words, so there is no word error rate ({self.insertions} words were inserted); give "
                "transcripts"
            )
        return self.total / self.reference


@dataclass(frozen=True)
class Scored:
    """One utterance: its words aligned, (reference, hypothesis) with None for a gap."""

    id: str
    speaker: str
    pairs: tuple[tuple[str | None, str | None], ...]
    errors: Errors


# In place of the blank between two words where characters are counted.
_BLANK = "▁"


def as_characters(text: str) -> str:
    """A text whose words are its characters, the blanks between words among them: `score` of such texts counts characters."""
    return " ".join(_BLANK.join(text.split()))


def score(references: Mapping[str, str], hypotheses: Mapping[str, str], speakers: Mapping[str, str]) -> list[Scored]:
    """Align each hypothesis with its reference, word by word, in Unicode's composed form (NFC).

    Args:
        references, hypotheses: text by utterance id.
        speakers: speaker by utterance id (white space in a name is one blank); an utterance without one is its own speaker.

    Raises:
        MismatchError: an utterance is missing on either side.
    """
    for name, here, there in (("hypotheses", references, hypotheses), ("references", hypotheses, references)):
        missing = [key for key in here if key not in there]
        if missing:
            raise MismatchError(
                f"{len(missing)} of {len(here)} utterances have no entry in the {name} (first: {missing[0]!r}), so the "
                "word error rate would be of another test set; decode or transcribe them too"
            )
    scored, composed = [], 0
    for key, given in references.items():
        reference, hypothesis = (text.words(text.normal(words)) for words in (given, hypotheses[key]))
        composed += text.words(given) != reference or text.words(hypotheses[key]) != hypothesis
        pairs = _aligned(reference, hypothesis)
        insertions = sum(ref is None for ref, _ in pairs)
        deletions = sum(hyp is None for _, hyp in pairs)
        wrong = sum(ref != hyp for ref, hyp in pairs)
        errors = Errors(wrong - insertions - deletions, deletions, insertions, len(reference))
        scored.append(Scored(key, " ".join(text.words(speakers.get(key) or "")) or key, pairs, errors))
    if composed:
        _log.warning(
            "%d utterances were compared in Unicode's composed form (NFC), which their words are not in", composed
        )
    return scored


def _aligned(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[tuple[str | None, str | None], ...]:
    words: list[str | None] = [*dict.fromkeys([*reference, *hypothesis])]
    numbers = {word: number for number, word in enumerate(words)}
    sides = ([numbers[word] for word in side] for side in (reference, hypothesis))
    words.append(None)  # where the index _GAP finds it
    return tuple((words[ref], words[hyp]) for ref, hyp in kaldialign.align(*sides, _GAP))


def total(scored: Sequence[Scored]) -> Errors:
    """Errors over all utterances."""
    return sum((one.errors for one in scored), Errors())


def by_speaker(scored: Sequence[Scored]) -> dict[str, Errors]:
    """Errors of each speaker, in order of name."""
    result: dict[str, Errors] = {}
    for one in sorted(scored, key=lambda s: s.speaker):
        result[one.speaker] = result.get(one.speaker, Errors()) + one.errors
    return result


def bootstrap(
    counts: Mapping[str, Sequence[Errors]], *, samples: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the pooled word error rate, resampling whole speakers (Bisani & Ney 2004, by speaker).

    Draws without a single word have no rate and are left out.

    Args:
        counts: for each speaker its errors, one entry a run (seed) that is pooled.

    Returns:
        Both ends; NaN if fewer than two speakers have words, for which there is no interval over speakers.
    """
    errors, words = _arrays(counts)
    if np.count_nonzero(words) < 2:
        return float("nan"), float("nan")
    wrong, drawn = _drawn([errors, words], samples, seed)
    return _interval(wrong[drawn > 0] / drawn[drawn > 0], level)


def bootstrap_difference(
    system: Mapping[str, Sequence[Errors]],
    baseline: Mapping[str, Sequence[Errors]],
    *,
    samples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Paired bootstrap over speakers of (system - baseline): the difference in WER and the relative change.

    Returns:
        (difference, low, high), (relative, low, high); negative is better than the baseline.

    Raises:
        MismatchError: the two have other speakers.
        CorpusError: there are no reference words.
    """
    if sorted(system) != sorted(baseline):
        raise MismatchError(
            f"the systems were scored on other speakers ({sorted(system)} and {sorted(baseline)}) "
            "and cannot be paired; score both on one test set"
        )
    (errors, words), (errors0, words0) = _arrays(system), _arrays(baseline)
    if not words.any() or not words0.any():
        raise CorpusError("the references hold no words, so there are no word error rates to compare")
    # The whole set first, then the draws.
    sums = [
        np.concatenate([[values.sum()], drawn])
        for values, drawn in zip(
            (errors, words, errors0, words0), _drawn([errors, words, errors0, words0], samples, seed), strict=True
        )
    ]
    wrong, spoken, wrong0, spoken0 = (one[(sums[1] > 0) & (sums[3] > 0)] for one in sums)
    rate, rate0 = wrong / spoken, wrong0 / spoken0
    difference, relative = rate - rate0, (rate - rate0) / np.maximum(rate0, 1e-12)
    return (
        (float(difference[0]), *_interval(difference[1:], level)),
        (float(relative[0]), *_interval(relative[1:], level)),
    )


def _arrays(counts: Mapping[str, Sequence[Errors]]) -> tuple[np.ndarray, np.ndarray]:
    order = sorted(counts)
    errors = np.array([sum(one.total for one in counts[name]) for name in order], dtype=np.float64)
    words = np.array([sum(one.reference for one in counts[name]) for name in order], dtype=np.float64)
    return errors, words


def _drawn(values: Sequence[np.ndarray], samples: int, seed: int) -> list[np.ndarray]:
    """For each (speakers,) array its (samples,) sums over speakers drawn with replacement; the draws are made block by block, because those of
    thousands of speakers at once would take gigabytes."""
    rng, count = np.random.default_rng(seed), len(values[0])
    sums = [np.empty(samples) for _ in values]
    rows = max(_BLOCK // count, 1)
    for begin in range(0, samples, rows):
        draws = rng.integers(0, count, size=(min(rows, samples - begin), count))
        for summed, one in zip(sums, values, strict=True):
            summed[begin : begin + rows] = one[draws].sum(axis=1)
    return sums


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
