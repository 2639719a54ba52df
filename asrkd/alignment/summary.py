"""What an alignment looks like as numbers, and which numbers speak against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asrkd import fingerprint
from asrkd.alignment.timeline import Timeline
from asrkd.store.sample import Sample

WORST = 10
# Utterances that a report shows as typical.
EXAMPLES = 3
# Frames of 50 or more are one bin.
LONGEST = 50
# An utterance that fits its transcript worse than the median by more than this many deviations says something else.
ODDITY = 10.0
# Called with what is done ("flat start", in rounds, or "align", in utterances), how much of it so far and in all, and seconds of audio so far, if that is counted.
UtteranceProgress = Callable[[str, int, int, float | None], None]
# Above these shares of phones as short as can be, of odd utterances, of utterances too short for their transcripts, and of frames that are
# silence, a set looks misaligned; below this share of quiet beginnings that are labeled so, too.
_SQUEEZED, _ODD, _FAST, _SILENT, _QUIET_FOUND = 0.35, 0.05, 0.01, 0.95, 0.8
# How much worse the median of a set may be, in the aligner's own deviations.
_WORSE = 4.0
# Fewer say little.
_FEW_QUIET = 10
# Nats a frame: among utterances that are all alike, a small difference is not odd.
_LEAST_SPREAD = 0.1
# The scores of what an aligner was made from lie close together, and a wrong transcript many deviations below; those of other sets are
# spread by speakers and rooms, and a wrong transcript is half as many deviations below (measured: docs/training.md).
_HERE = 0.5
# Few utterances do not show how much they differ: with this many, the spread counts twice.
_FEW = 10


def usual_of(gains: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Median and robust deviation of the scores of utterances."""
    middle = float(np.median(gains))
    spread = float(1.4826 * np.median(np.abs(np.asarray(gains) - middle)))
    return middle, max(spread, _LEAST_SPREAD) * (1 + _FEW / len(gains))


def deviations(gain: float, usual: tuple[float, float]) -> float:
    """By how many robust deviations a score is below what is usual."""
    middle, spread = usual
    return (middle - gain) / spread


def usual_here(gains: Sequence[float], made_from: tuple[float, float]) -> tuple[float, float]:
    """What is usual in a set that an aligner was not made from, whose speakers and rooms it does not know.

    Args:
        gains: of utterances of the set; the fewer they are, the less they count.
        made_from: what is usual where the aligner was made; a set may be as good and as even, but is not asked to be.
    """
    if not gains:
        return made_from
    middle, spread = usual_of(gains)
    share = len(gains) / (len(gains) + _FEW)
    middle = share * middle + (1 - share) * made_from[0]
    spread = share * _HERE * spread + (1 - share) * made_from[1]
    return min(made_from[0], middle), max(made_from[1], spread)


@dataclass(frozen=True)
class Example:
    """An utterance to look at: its score (mean over the spoken frames of the log-likelihood less that of the best class) and its spans."""

    key: str
    text: str
    gain: float
    timeline: Timeline


@dataclass
class Summary:
    """Counts over the utterances of an aligned set, its worst utterances and some typical ones.

    Attributes:
        frame_seconds: of a frame of the alignment.
        least: frames that a phone lasts at least.
        has_blank: frames without a token are blanks, and tokens last until the next one (`ctc`).
        usual: median and robust deviation of the score that utterances are judged by; None: those of the utterances added here.
        made_from: the same where a saved aligner was made.
        utterances, frames, silent_frames: counts.
        begin, end: utterances that begin and end with silence.
        quiet, quiet_found: utterances that begin with 0.3 s without energy, and those of them that begin with silence.
        lengths: (51,) phones that last 0, 1, ... frames, the last also for those that are longer.
        odd: utterances left out because they do not fit their transcript.
        too_fast: utterances left out because they have too few frames for their transcript.
        gains: of the utterances.
        worst: the utterances that fit their transcripts worst, the worst first.
        examples: a few typical utterances.
    """

    frame_seconds: float
    least: int
    has_blank: bool = False
    usual: tuple[float, float] | None = None
    made_from: tuple[float, float] | None = None
    utterances: int = 0
    frames: int = 0
    silent_frames: int = 0
    begin: int = 0
    end: int = 0
    quiet: int = 0
    quiet_found: int = 0
    odd: int = 0
    too_fast: int = 0
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(LONGEST + 1, dtype=np.int64))
    gains: Sample = field(default_factory=Sample)
    worst: list[Example] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)

    def add(self, example: Example, *, quiet_start: bool) -> None:
        """Count an utterance.

        Args:
            quiet_start: whether it begins with 0.3 s without energy.
        """
        spans, timeline = example.timeline.phones, example.timeline
        silent_start = not spans or spans[0].start > 0
        self.utterances += 1
        self.frames += timeline.frames
        self.silent_frames += timeline.silent_frames
        self.begin += silent_start
        self.end += not spans or spans[-1].end < timeline.frames
        self.quiet += quiet_start
        self.quiet_found += quiet_start and silent_start
        ends = [span.end for span in spans]
        if self.has_blank:
            ends[:-1] = [span.start for span in spans[1:]]
        lengths = np.array(ends, dtype=np.int64) - [span.start for span in spans]
        self.lengths += np.bincount(np.minimum(lengths, LONGEST), minlength=LONGEST + 1)
        self.gains.add(example.gain)
        self.worst = sorted([*self.worst, example], key=lambda other: (other.gain, other.key))[:WORST]
        # Those whose ids have the lowest hashes, whatever the order.
        self.examples = sorted([*self.examples, example], key=lambda other: fingerprint.of_json(other.key))[:EXAMPLES]

    def oddity(self, gain: float) -> float:
        """By how many robust deviations an utterance fits its transcript worse than is usual."""
        return deviations(gain, self.usual or usual_of(self.gains.values))

    @property
    def silence(self) -> float:
        """Share of frames."""
        return self.silent_frames / max(self.frames, 1)

    @property
    def shortest(self) -> float:
        """Share of phones that are as short as the topology allows."""
        return float(self.lengths[: self.least + 1].sum() / max(self.lengths.sum(), 1))

    @property
    def phone_frames(self) -> tuple[float, float, float]:
        """The 10 %, 50 % and 90 % points of the frames a phone."""
        shares = np.cumsum(self.lengths) / max(self.lengths.sum(), 1)
        low, middle, high = (int(np.searchsorted(shares, point)) for point in (0.1, 0.5, 0.9))
        return low, middle, high

    def warnings(self) -> list[str]:
        """What looks wrong with the set, in sentences."""
        found, total = [], self.utterances + self.odd + self.too_fast
        hmm, least_ms = not self.has_blank, 1000 * self.least * self.frame_seconds
        if self.shortest > _SQUEEZED:
            found.append(
                f"{self.shortest:.0%} of the {self.unit}s last only {self.least} frame{'s' * (self.least > 1)} ({least_ms:.0f} ms), the least there is: "
                "the transcripts or the lexicon seem to hold more than is said, or the speech is too fast for the frame rate"
                + (
                    "; for a model of longer frames, --leave-early lets a phone pass in one"
                    if hmm and self.least > 1
                    else ""
                )
            )
        if hmm and self.silence > _SILENT:
            found.append(f"{self.silence:.0%} of the frames are silence; is the audio that of the transcripts?")
        if hmm and self.quiet >= _FEW_QUIET and self.quiet_found < _QUIET_FOUND * self.quiet:
            found.append(
                f"{self.quiet} utterances begin with 0.3 s without energy, but only {self.quiet_found} of them with silence: words are "
                "aligned where nothing is said"
            )
        if self.odd > _ODD * total:
            found.append(
                f"{self.odd} of {total} utterances do not fit their transcripts; look at some of those in quarantine/"
            )
        if self.too_fast > _FAST * total:
            found.append(
                f"{self.too_fast} of {total} utterances have too few frames for their transcripts: the speech is too fast for frames of "
                f"{1000 * self.frame_seconds:.0f} ms, or the transcripts hold more than is said; take a front end with a shorter frame shift"
            )
        if (
            self.made_from
            and self.gains.count
            and (median := deviations(float(np.median(self.gains.values)), self.made_from)) > _WORSE
        ):
            found.append(
                f"half of the utterances fit the aligner worse than {median:.1f} deviations below what it was made from; is it for this language, "
                "these recordings and this many speakers?"
            )
        if not self.usual and (odd := [one for one in self.worst if self.oddity(one.gain) > ODDITY]):
            more = " or more" if len(odd) == WORST else ""
            found.append(
                f"{len(odd)}{more} of {total} utterances fit their transcripts worse than the middle one by over {ODDITY:g} deviations, and are used "
                f"all the same: {', '.join(repr(one.key) for one in odd[:5])}"
            )
        return found

    @property
    def unit(self) -> str:
        """What a span is called."""
        return "token" if self.has_blank else "phone"

    def rows(self) -> list[tuple[str, str]]:
        """(what, how much) as a table."""
        low, middle, high = (1000 * self.frame_seconds * frames for frames in self.phone_frames)
        count, hmm = max(self.utterances, 1), not self.has_blank
        rows = [
            ("utterances", f"{self.utterances:,}"),
            ("hours", f"{self.frames * self.frame_seconds / 3600:.2f}"),
            ("silence" if hmm else "blanks", f"{self.silence:.1%} of the frames"),
        ]
        if hmm:
            rows.append(
                ("silence at the beginning, end", f"{self.begin / count:.1%}, {self.end / count:.1%} of the utterances")
            )
        if hmm and self.quiet:
            rows.append(
                (
                    "silence where 0.3 s at the beginning have no energy",
                    f"{self.quiet_found} of {self.quiet} utterances",
                )
            )
        rows += [
            (f"a {self.unit}", f"{middle:.0f} ms in the median (10 %: {low:.0f}, 90 %: {high:.0f})"),
            (f"{self.unit}s at the least length", f"{self.shortest:.1%}"),
            ("score", f"{self.gains.mean:.2f} nats a spoken frame below the best class of each frame"),
            ("worst", ", ".join(f"{one.key} ({self.oddity(one.gain):.1f})" for one in self.worst[:5])),
        ]
        if self.odd:
            rows.append(("left out, odd", f"{self.odd} utterances"))
        if self.too_fast:
            rows.append(("left out, too few frames", f"{self.too_fast} utterances"))
        return rows
