"""The transcript of a cut: the words of the supervisions that are in it, and of no others.

A supervision may reach beyond its cut (windows, truncation), and then its text has words that the audio may not have. With
word times (`alignment["word"]`) the words inside are known; without them there is no transcript. Nor is there one where
two supervisions overlap: no order of their words is what is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from lhotse.cut import Cut, MixedCut

from asrkd.corpus.cut_json import CutJson, duration_of, tracks

# What may lie beyond, or overlap: the smaller of these, so that rounded times do no harm and no word fits in.
SECONDS = 0.05
SHARE = 0.1
# One speaker's segments are often drawn with margins; to this share of the shorter one their order is still clear.
_SAME_SPEAKER_SHARE = 0.5
_SILENCES = ("", "<eps>")


@dataclass(frozen=True)
class Transcript:
    """What is said in a cut: its text, None without any; and why there is no true one, if there should be."""

    text: str | None
    problem: str = ""


@dataclass(frozen=True)
class _Segment:
    """A supervision with text in seconds of the cut, and the time of its cut in the recording."""

    start: float
    duration: float
    text: str
    speaker: str | None
    words: list[Any]
    # What is to be added to a time of the recording, and of the track.
    shifts: tuple[float, float]

    @property
    def end(self) -> float:
        return self.start + self.duration

    @property
    def tolerance(self) -> float:
        return _tolerance(self.duration)


def transcript_of(cut: Cut | CutJson) -> Transcript:
    """The transcript of a cut, as lhotse has it or in JSON: the texts of the supervisions inside, in order of time."""
    duration, supervisions = _supervisions(cut)
    if not supervisions:
        return Transcript(None)
    segments, has_text = [], False
    for shifts, supervision in supervisions:
        text = supervision.get("text")
        if text is None:
            continue
        if not isinstance(text, str):
            return Transcript(None, f"has a supervision whose text is {text!r}, not text")
        start, length = supervision.get("start"), supervision.get("duration")
        if not _is_time(start) or not _is_time(length) or length < 0:
            return Transcript(None, f"has a supervision with the start {start!r} and the duration {length!r}")
        words = (supervision.get("alignment") or {}).get("word") or []
        segment = _Segment(start + shifts[1], length, text, supervision.get("speaker"), words, shifts)
        if _is_outside(segment.start, segment.end, duration):
            continue
        has_text = True
        if text.strip():
            segments.append(segment)
    segments.sort(key=lambda one: one.start)
    inside = []
    for segment in segments:
        if not _is_inside(segment.start, segment.end, duration):
            found = _words_inside(segment, duration)
            if found is None:
                return Transcript(
                    None,
                    f"of {duration:.2f} s has a transcript of {segment.duration:.2f} s that reaches beyond it, so some of its "
                    "words are not in the audio; cut at supervisions (lhotse: cuts.trim_to_supervisions) or give word alignments",
                )
            segment = found
        if segment.text:
            inside.append(segment)
    problem = _overlap(inside)
    if problem:
        return Transcript(None, problem)
    return Transcript(" ".join(one.text for one in inside) if has_text else None)


def text_of(cut: Cut | CutJson) -> str | None:
    """The transcript; None without any, and where there is no true one (`transcript_of` tells why)."""
    return transcript_of(cut).text


def speaker_of(cut: Cut | CutJson) -> str | None:
    """The speaker of the first supervision in the cut that names one."""
    duration, supervisions = _supervisions(cut)
    for shifts, supervision in supervisions:
        speaker = supervision.get("speaker")
        if speaker in (None, ""):
            continue
        start, length = supervision.get("start"), supervision.get("duration")
        if (
            _is_time(start)
            and _is_time(length)
            and _is_outside(start + shifts[1], start + shifts[1] + length, duration)
        ):
            continue
        return str(speaker)
    return None


def _supervisions(cut: Cut | CutJson) -> tuple[float, list[tuple[tuple[float, float], Mapping[str, Any]]]]:
    """The duration of the cut, and each supervision in JSON with what is to be added to times of the recording and of its track."""
    if isinstance(cut, Mapping):
        if "tracks" not in cut and not cut.get("supervisions"):
            return cut.get("duration", 0.0), []
        return duration_of(cut), [
            ((offset - part.get("start", 0.0), offset), one)
            for offset, part in tracks(cut)
            for one in part.get("supervisions") or ()
        ]
    if not isinstance(cut, MixedCut):
        return cut.duration, [((-cut.start, 0.0), one.to_dict()) for one in cut.supervisions]
    audible = [track for track in cut.tracks if not track.mute] or cut.tracks
    return cut.duration, [
        ((track.offset - track.cut.start, track.offset), one.to_dict())
        for track in audible
        for one in track.cut.supervisions
    ]


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _tolerance(duration: float) -> float:
    # A hair more, for sums of floats.
    return min(SECONDS, SHARE * duration) + 1e-6


def _is_inside(start: float, end: float, duration: float) -> bool:
    tolerance = _tolerance(end - start)
    return start >= -tolerance and end <= duration + tolerance


def _is_outside(start: float, end: float, duration: float) -> bool:
    return not _is_inside(start, end, duration) and min(end, duration) - max(start, 0.0) <= _tolerance(end - start)


def _words_inside(segment: _Segment, duration: float) -> _Segment | None:
    """The words of a supervision that are whole in the cut; None where their times are not known."""
    for shift in segment.shifts:
        # lhotse's are times of the recording; some tools write times of the cut.
        try:
            words = [
                (str(word["symbol"]), word["start"] + shift, word["start"] + shift + word["duration"])
                if isinstance(word, Mapping)
                else (str(word[0]), word[1] + shift, word[1] + shift + word[2])
                for word in segment.words
            ]
        except (KeyError, IndexError, TypeError):
            return None
        margin = segment.tolerance
        if words and all(segment.start - margin <= a and b <= segment.end + margin for _, a, b in words):
            kept = [
                word
                for word in sorted(words, key=lambda one: one[1])
                if word[0].strip() not in _SILENCES and _is_inside(word[1], word[2], duration)
            ]
            start = kept[0][1] if kept else 0.0
            end = kept[-1][2] if kept else 0.0
            text = " ".join(word for word, _, _ in kept)
            return _Segment(start, end - start, text, segment.speaker, [], segment.shifts)
    return None


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
