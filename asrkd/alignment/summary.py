"""What an alignment looks like as numbers, and which numbers speak against it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asrkd.alignment.phone_graph import STATES, PhoneGraph
from asrkd.alignment.phone_model import BestPath

WORST = 10
# Above these shares of phones as short as can be, of odd utterances, and of utterances that are silence, a set looks misaligned.
_SQUEEZED, _ODD, _QUIET = 0.35, 0.05, 0.95
# How much worse the median of a set may be, in the aligner's own deviations.
_WORSE = 4.0
_LONGEST = 50


@dataclass
class Summary:
    """Counts over the utterances of an aligned set, and its worst utterances.

    Attributes:
        utterances, frames, silent_frames: frames are 10 ms.
        begin, end: utterances that begin and end with silence.
        lengths: (51,) phones that last 0, 1, ... 10 ms frames, the last also for those that are longer.
        odd: utterances left out because they do not fit their transcript.
        oddities: of every utterance, in deviations (`PhoneModel.oddity`).
        worst: (oddity, id), the worst first.
    """

    utterances: int = 0
    frames: int = 0
    silent_frames: int = 0
    begin: int = 0
    end: int = 0
    odd: int = 0
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_LONGEST + 1, dtype=np.int64))
    oddities: list[float] = field(default_factory=list)
    gains: float = 0.0
    worst: list[tuple[float, str]] = field(default_factory=list)

    def add(self, key: str, path: BestPath, graph: PhoneGraph, oddity: float) -> None:
        """Count an utterance."""
        quiet = graph.words[path.nodes] < 0
        self.utterances += 1
        self.frames += len(quiet)
        self.silent_frames += int(quiet.sum())
        self.begin += bool(quiet[0])
        self.end += bool(quiet[-1])
        phones = graph.phones[path.nodes]
        edges = np.flatnonzero(np.r_[True, phones[1:] != phones[:-1], True])
        lengths = np.diff(edges)[phones[edges[:-1]] >= 0]
        self.lengths += np.bincount(np.minimum(lengths, _LONGEST), minlength=_LONGEST + 1)
        self.oddities.append(oddity)
        self.gains += path.gain
        self.worst = sorted([*self.worst, (oddity, key)], reverse=True)[:WORST]

    @property
    def silence(self) -> float:
        """Share of frames."""
        return self.silent_frames / max(self.frames, 1)

    @property
    def shortest(self) -> float:
        """Share of phones that are as short as the HMM allows."""
        return float(self.lengths[: STATES + 1].sum() / max(self.lengths.sum(), 1))

    @property
    def phone_frames(self) -> tuple[float, float, float]:
        """The 10 %, 50 % and 90 % points of the frames a phone."""
        shares = np.cumsum(self.lengths) / max(self.lengths.sum(), 1)
        low, middle, high = (int(np.searchsorted(shares, point)) for point in (0.1, 0.5, 0.9))
        return low, middle, high

    def warnings(self) -> list[str]:
        """What looks wrong with the set, in sentences."""
        found = []
        if self.shortest > _SQUEEZED:
            found.append(
                f"{self.shortest:.0%} of the phones last only {STATES} frames of 10 ms, the least there is: the transcripts or the lexicon "
                "seem to hold more than is said"
            )
        if self.silence > _QUIET:
            found.append(f"{self.silence:.0%} of the frames are silence; is the audio that of the transcripts?")
        if self.utterances and self.odd / (self.odd + self.utterances) > _ODD:
            found.append(
                f"{self.odd} of {self.odd + self.utterances} utterances do not fit their transcripts; look at some of those in quarantine/"
            )
        if self.oddities and np.median(self.oddities) > _WORSE:
            found.append(
                f"half of the utterances fit the aligner worse than {np.median(self.oddities):.1f} deviations below what it was made from; "
                "is it for this language and these recordings?"
            )
        return found

    def rows(self) -> list[tuple[str, str]]:
        """(what, how much) as a table."""
        low, middle, high = self.phone_frames
        count = max(self.utterances, 1)
        return [
            ("utterances", f"{self.utterances:,}"),
            ("hours", f"{self.frames / 360_000:.2f}"),
            ("silence", f"{self.silence:.1%} of the frames"),
            ("silence at the beginning, end", f"{self.begin / count:.1%}, {self.end / count:.1%} of the utterances"),
            ("a phone", f"{middle * 10:.0f} ms in the median (10 %: {low * 10:.0f}, 90 %: {high * 10:.0f})"),
            ("phones at the least length", f"{self.shortest:.1%}"),
            ("score", f"{self.gains / count:.2f} nats a spoken frame below the best state of each frame"),
            ("worst", ", ".join(f"{key} ({oddity:.1f})" for oddity, key in self.worst[:5])),
        ]
