"""The transcript of a cut: the words of the supervisions that are in it, and of no others.

A supervision may reach beyond its cut (windows, truncation), and then its text has words that the audio may not have. With
word times (`alignment["word"]`) the words inside are known; without them there is no transcript. Nor is there one where
two supervisions overlap: no order of their words is what is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from lhotse.cut import Cut, MixedCut
from lhotse.supervision import AlignmentItem

from asrkd.corpus.cut_json import CutJson
from asrkd.corpus.cut_json import tracks as json_tracks

# What may lie beyond, or overlap: the smaller of these, so that rounded times do no harm and no word fits in.
SECONDS = 0.04
SHARE = 0.1
# One speaker's segments are often drawn with margins; to this share of the shorter one their order is still clear.
_SAME_SPEAKER_SHARE = 0.5
_SILENCES = ("", "<eps>")


@dataclass(frozen=True)
class Transcript:
    """What is said in a cut: its text, None without any; and why there is no true one, if there should be."""

    text: str | None
    problem: str = ""


_NOTHING = Transcript(None)


@dataclass(frozen=True)
class _Track:
    """A cut, or one of a mixed cut: seconds at which it begins in the mix and in its recording, its length, its supervisions in JSON."""

    offset: float
    start: float
    duration: float
    supervisions: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class _Segment:
    """Words in seconds of the cut, or of a track."""

    start: float
    duration: float
    text: str
    speaker: Any

    @property
    def end(self) -> float:
        return self.start + self.duration


def transcript_of(cut: Cut | CutJson) -> Transcript:
    """The transcript of a cut, as lhotse has it or in JSON: the texts of the supervisions inside, in order of time."""
    if isinstance(cut, dict) and (plain := _plain(cut)) is not None:
        return plain
    inside: list[_Segment] = []
    has_text = False
    for track in _tracks(cut):
        for supervision in track.supervisions:
            text, start, duration = (supervision.get(name) for name in ("text", "start", "duration"))
            if text is None:
                continue
            if not isinstance(text, str):
                return Transcript(None, f"has a supervision whose text is {text!r}, not text")
            if not _is_time(start) or not _is_time(duration) or duration < 0:
                return Transcript(None, f"has a supervision with the start {start!r} and the duration {duration!r}")
            if _is_outside(start, duration, track.duration):
                continue
            has_text = True
            segment = _Segment(start, duration, text, supervision.get("speaker"))
            if text.strip() and not _is_inside(start, duration, track.duration):
                words = _words_inside(segment, supervision, track)
                if words is None:
                    return Transcript(
                        None,
                        f"of {track.duration:.2f} s has a transcript of {duration:.2f} s that reaches beyond it, so some of its words are not in "
                        "the audio; cut at supervisions (lhotse: cuts.trim_to_supervisions) or give word alignments",
                    )
                segment = words
            if segment.text.strip():
                inside.append(replace(segment, start=segment.start + track.offset))
    inside.sort(key=lambda one: one.start)
    problem = _overlap(inside)
    if problem:
        return Transcript(None, problem)
    return Transcript(" ".join(one.text for one in inside) if has_text else None)


def _plain(cut: dict[str, Any]) -> Transcript | None:
    """The transcript of a cut with one supervision that is inside, or none, as most of a corpus are; else None."""
    supervisions = cut.get("supervisions")
    if "tracks" in cut:
        return None
    if not supervisions:
        return _NOTHING
    try:
        if len(supervisions) > 1:
            return None
        text, start, duration = supervisions[0]["text"], supervisions[0]["start"], supervisions[0]["duration"]
        if isinstance(text, str) and start >= 0 and duration >= 0 and start + duration <= cut["duration"]:
            return Transcript(text if text.strip() else "")
    except (KeyError, TypeError):
        pass
    return None


def text_of(cut: Cut | CutJson) -> str | None:
    """The transcript; None without any, and where there is no true one (`transcript_of` tells why)."""
    return transcript_of(cut).text


def speaker_of(cut: Cut | CutJson) -> str | None:
    """The speaker of the first supervision in the cut that names one."""
    for track in _tracks(cut):
        for supervision in track.supervisions:
            speaker, start, duration = (supervision.get(name) for name in ("speaker", "start", "duration"))
            if speaker in (None, "") or (
                _is_time(start) and _is_time(duration) and _is_outside(start, duration, track.duration)
            ):
                continue
            return str(speaker)
    return None


def _tracks(cut: Cut | CutJson) -> list[_Track]:
    """The tracks that have supervisions."""
    if isinstance(cut, Mapping):
        if "tracks" not in cut and not cut.get("supervisions"):
            return []  # most cuts: without a transcript
        return [
            _Track(
                offset, part.get("start", 0.0), part["duration"], [one for one in supervisions if isinstance(one, dict)]
            )
            for offset, part in json_tracks(cut)
            # What is not lhotse's is told when the cut is read.
            if isinstance(supervisions := part.get("supervisions"), list)
        ]
    parts: list[tuple[float, Cut]] = [(0.0, cut)]
    if isinstance(cut, MixedCut):
        parts = [(track.offset, track.cut) for track in cut.tracks if not track.mute or all(t.mute for t in cut.tracks)]
    return [
        _Track(offset, part.start, part.duration, [one.to_dict() for one in part.supervisions])
        for offset, part in parts
        if part.supervisions
    ]


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _tolerance(duration: float) -> float:
    # A hair more, for sums of floats.
    return min(SECONDS, SHARE * duration) + 1e-6


def _is_inside(start: float, duration: float, limit: float) -> bool:
    """Whether an interval lies in 0 to `limit`."""
    tolerance = _tolerance(duration)
    return start >= -tolerance and start + duration <= limit + tolerance


def _is_outside(start: float, duration: float, limit: float) -> bool:
    """Whether no more than an edge of an interval lies in 0 to `limit`."""
    shared = min(start + duration, limit) - max(start, 0.0)
    return not _is_inside(start, duration, limit) and shared <= _tolerance(duration)


def _words_inside(segment: _Segment, supervision: Mapping[str, Any], track: _Track) -> _Segment | None:
    """The words of a supervision that are whole in its track; None where their times are not known."""
    margin = _tolerance(segment.duration)
    try:
        items = [AlignmentItem.deserialize(item) for item in supervision["alignment"]["word"]]
        # lhotse's are times of the recording; some tools write times of the cut.
        for shift in (-track.start, 0.0):
            words = [_Segment(item.start + shift, item.duration, str(item.symbol), segment.speaker) for item in items]
            words.sort(key=lambda one: one.start)
            if words and all(segment.start - margin <= one.start and one.end <= segment.end + margin for one in words):
                break
        else:
            return None
    except (KeyError, TypeError, AttributeError):
        return None
    kept = [
        one
        for one in words
        if one.text.strip() not in _SILENCES and _is_inside(one.start, one.duration, track.duration)
    ]
    start, end = (kept[0].start, kept[-1].end) if kept else (0.0, 0.0)
    return _Segment(start, end - start, " ".join(one.text for one in kept), segment.speaker)


def _overlap(segments: list[_Segment]) -> str:
    """Why segments in order of start have no common order of words; empty if they have."""
    open_ones: list[_Segment] = []
    for segment in segments:
        open_ones = [one for one in open_ones if one.end > segment.start]
        for other in open_ones:
            shared = min(other.end, segment.end) - segment.start
            shorter = min(other.duration, segment.duration)
            is_same = segment.speaker is not None and segment.speaker == other.speaker
            if shared > (_SAME_SPEAKER_SHARE * shorter if is_same else _tolerance(shorter)):
                speakers = " and ".join(
                    repr(one.speaker) if one.speaker else "an unnamed speaker" for one in (other, segment)
                )
                return (
                    f"has supervisions of {speakers} that overlap by {shared:.2f} s, so no order of their words is what is said; "
                    "cut at supervisions (lhotse: cuts.trim_to_supervisions) or leave it out"
                )
        open_ones.append(segment)
    return ""
